"""The providers' Batch APIs: the same requests at half the price, answered within a day.

Which provider serves which request is told by `choice.lane_for` from the address, headers and body of the live request.

- `lines`: the values all of it speaks in. A `Line` goes out, a `Result` comes back, matched by `custom_id` alone.
- `lanes`: what may travel in one batch together, and the credentials it needs.
- `openai` (also Azure, Groq and Together), `mistral`, `anthropic`, `gemini`: each is an `adapter.Adapter`, which builds
  requests (`Ask`) and reads replies. They are pure: `client` sends what they build.
- `packing` (pure) and `spool`: lines into files that keep within rows, bytes and enqueued tokens.
- `stages` (pure): what is to be done next for a batch, whatever was interrupted; `submission` does it, so that
  nothing is paid twice.
"""
