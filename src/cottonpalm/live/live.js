// What stands on the live page only: parts that the stream replaces, the drawer of a row, single keys.
const { view, run } = document.body.dataset;
const link = document.getElementById("link");
const here = (path, more) => `${path}?${new URLSearchParams(more)}`;

// -- the stream: fresh parts once a second, only what has changed
const AGAIN_MS = 10000; // until a stream that ended, or that nobody sees, is asked for again
const OLD_S = 5;
const shown = new Map();
const coming = new Map(); // what has come, and waits until its part is not in use
let failed = 0; // until when it stands that an order reached nobody, whatever the stream tells
const busy = (part) =>
  (part.id === "part-controls" && Date.now() < failed) ||
  part.querySelector(":active, .time:hover, .time:focus, input:focus, details.cancel[open]") !== null;
const stops = (part) => [...part.querySelectorAll("a, button, input, summary, [tabindex]")];
const key = (each) => each.getAttribute("name") ?? each.getAttribute("href");
// What stands now where `was` stood: of its name, leading where it led, or in its place.
const twin = (part, was, at) => {
  const all = stops(part);
  const same = key(was) === null ? undefined : all.find((each) => key(each) === key(was));
  return same ?? (all[at]?.tagName === was.tagName ? all[at] : undefined);
};
const replace = (part, html) => {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const at = focused ? stops(part).indexOf(focused) : -1;
  const open = [...part.querySelectorAll("details")].map((each) => each.open);
  const typed = [...part.querySelectorAll("input")].filter((each) => each.value !== each.defaultValue);
  part.innerHTML = html;
  [...part.querySelectorAll("details")].forEach((each, number) => { each.open = open[number] ?? false; });
  for (const { name, value } of typed) {
    const field = part.querySelector(`[name="${CSS.escape(name)}"]`);
    if (field) field.value = value;
  }
  enhance(part);
  if (focused) twin(part, focused, at)?.focus({ preventScroll: true });
};
const settle = () => {
  for (const [name, html] of coming) {
    const part = document.getElementById(`part-${name}`);
    if (part && busy(part)) continue;
    coming.delete(name);
    if (part && shown.get(name) !== html) replace(part, html);
    shown.set(name, html);
  }
};
const buttons = (on) => {
  for (const each of document.querySelectorAll("#part-controls button, #part-controls input")) each.disabled = !on;
};
let source;
let again;
let heard = Date.now();
let asked = heard; // since when somebody looks
let why = ""; // no stream comes
let spoken = 0;
const rest = (said = "") => {
  source.close();
  why = said;
  clearTimeout(again);
  again = setTimeout(listen, AGAIN_MS);
};
const reason = async (address) => {
  const answer = await fetch(address).catch(() => null);
  if (answer && !answer.ok) return (await answer.text()).trim();
  answer?.body?.cancel();
  return "";
};
const hear = () => {
  heard = Date.now();
  why = "";
  if (document.hidden) rest(); // browsers keep six connections to one place, for all their tabs
};
const take = (event) => {
  const { title, parts, said } = JSON.parse(event.data);
  document.title = title;
  for (const [name, html] of Object.entries(parts)) coming.set(name, html);
  settle();
  if (said && Date.now() - spoken > 30000) {
    document.getElementById("spoken").textContent = said;
    spoken = Date.now();
  }
};
const tick = () => {
  settle();
  if (document.hidden) return;
  const age = Math.round((Date.now() - heard) / 1000);
  const lost = why !== "" || Date.now() - Math.max(heard, asked) > 1000 * OLD_S;
  document.body.classList.toggle("lost", lost);
  link.textContent = lost ? `${why.replace(/\.$/, "") || "connection lost"}; the numbers are ${age} s old` : "live";
  if (lost || document.querySelector("#part-controls button:disabled")) buttons(!lost);
};
function listen() {
  clearTimeout(again);
  source?.close();
  const address = here("/stream", run === undefined ? {} : { run });
  source = new EventSource(address);
  source.addEventListener("parts", take);
  for (const name of ["parts", "same"]) source.addEventListener(name, hear);
  source.addEventListener("gone", (event) => { rest(event.data); tick(); });
  source.addEventListener("error", async ({ target }) => {
    if (target !== source || target.readyState !== EventSource.CLOSED) return; // else the browser asks again by itself
    rest(why);
    why = await reason(address);
    tick();
  });
}
if (view === "now" || view === "runs") {
  link.textContent = "live";
  listen();
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    asked = Date.now();
    listen();
  });
}

// -- orders: the button answers at once, the stream then shows what the run does
const order = async (form) => {
  const body = new URLSearchParams(new FormData(form));
  try {
    return (await (await fetch(form.action, { method: "POST", body })).text()).trim();
  } catch {
    failed = Date.now() + 5000;
    return "The process that serves this page did not answer; see whether it still runs.";
  }
};
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const said = await order(form);
  for (const field of form.querySelectorAll("input")) field.defaultValue = field.value; // it is no draft any more
  const note = document.querySelector("#part-controls .note");
  if (note) note.textContent = said;
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
