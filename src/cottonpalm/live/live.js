// What stands on the live page only: parts that the stream replaces, the drawer of a row, single keys.
const { view, run } = document.body.dataset;
const link = document.getElementById("link");
const here = (path, more) => `${path}?${new URLSearchParams(more)}`;

// -- the stream: fresh parts once a second, only what has changed
const shown = new Map();
const busy = (part) =>
  part.querySelector(".time:hover, .time:focus, input:focus, details.cancel[open]") !== null;
const replace = (name, html) => {
  const part = document.getElementById(`part-${name}`);
  if (!part || shown.get(name) === html || busy(part)) return;
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("name") : null;
  const open = [...part.querySelectorAll("details")].map((each) => each.open);
  part.innerHTML = html;
  [...part.querySelectorAll("details")].forEach((each, at) => { each.open = open[at] ?? false; });
  if (focused) part.querySelector(`[name="${CSS.escape(focused)}"]`)?.focus();
  shown.set(name, html);
  enhance(part);
};
const buttons = (on) => {
  for (const each of document.querySelectorAll("#part-controls button, #part-controls input")) each.disabled = !on;
};
let heard = Date.now();
let spoken = 0;
const listen = () => {
  const source = new EventSource(here("/stream", run === undefined ? {} : { run }));
  source.addEventListener("parts", (event) => {
    const { title, parts, said } = JSON.parse(event.data);
    document.title = title;
    for (const [name, html] of Object.entries(parts)) replace(name, html);
    if (said && Date.now() - spoken > 30000) {
      document.getElementById("spoken").textContent = said;
      spoken = Date.now();
    }
  });
  for (const name of ["parts", "same"]) source.addEventListener(name, () => { heard = Date.now(); });
  source.addEventListener("gone", (event) => {
    source.close();
    link.textContent = event.data;
    buttons(false);
  });
  setInterval(() => {
    if (source.readyState === EventSource.CLOSED) return;
    const age = Math.round((Date.now() - heard) / 1000);
    const lost = age > 5;
    document.body.classList.toggle("lost", lost);
    link.textContent = lost ? `connection lost; the numbers are ${age} s old` : "live";
    if (lost) buttons(false);
    else if (document.querySelector("#part-controls button:disabled")) buttons(true);
  }, 1000);
  link.textContent = "live";
};
if (view === "now" || view === "runs") listen();

// -- orders: the button answers at once, the stream then shows what the run does
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  const note = document.querySelector("#part-controls .note");
  if (note) note.textContent = (await answer.text()).trim();
  form.closest("details")?.removeAttribute("open");
});

// -- a row beside the table: the address of the table stays
const drawer = document.getElementById("drawer");
let opener = null;
const shut = () => {
  if (!drawer || drawer.hidden) return;
  drawer.hidden = true;
  drawer.replaceChildren();
  document.body.classList.remove("with-drawer");
  opener?.closest("tr")?.classList.remove("chosen");
  opener?.focus();
};
const show = async (from) => {
  const address = new URL(from.href);
  address.searchParams.set("part", "1");
  const answer = await fetch(address);
  if (!answer.ok) { location.href = from.href; return; }
  opener?.closest("tr")?.classList.remove("chosen");
  opener = from;
  opener.closest("tr")?.classList.add("chosen");
  drawer.innerHTML = await answer.text();
  drawer.hidden = false;
  document.body.classList.add("with-drawer");
  drawer.querySelector("[data-close]")?.focus({ preventScroll: true });
  from.scrollIntoView({ block: "nearest" });
};
const rows = () => [...document.querySelectorAll("a[data-row]")];
document.addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  const from = event.target.closest?.("a[data-row]");
  if (from && drawer) { event.preventDefault(); show(from); }
  if (drawer && !drawer.hidden && event.target.closest?.("[data-close]")) { event.preventDefault(); shut(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { shut(); return; }
  if (event.target.matches?.("input, textarea, select") || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.key === "/") {
    const field = document.getElementById("text");
    if (field) { event.preventDefault(); field.focus(); }
  }
  const step = { j: 1, k: -1 }[event.key];
  if (!step || !drawer) return;
  const all = rows();
  const at = drawer.hidden ? (step > 0 ? 0 : all.length - 1) : all.indexOf(opener) + step;
  if (all[at]) show(all[at]);
});
