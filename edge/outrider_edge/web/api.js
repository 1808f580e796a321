// The daemon's API as this page uses it: its status, and chats as they are written.
// Every failure is an ApiError with a sentence for people. Knows nothing of the page.

export class ApiError extends Error {}

export const UNREACHABLE = "The daemon does not answer; see whether 'outrider edge serve' still runs.";
const BROKEN_OFF = "The connection broke off in the middle of the answer; try again.";

/** What the daemon says of itself; null if it does not answer. */
export async function daemonStatus() {
  return await documentAt("/status");
}

/** Why no request would be answered now; null if one would. */
export async function trouble() {
  const said = await documentAt("/ready");
  return said?.error?.message ?? (said ? null : UNREACHABLE);
}

async function documentAt(path) {
  try {
    return await (await fetch(path, { cache: "no-store" })).json();
  } catch {
    return null;
  }
}

/** The pieces of a streamed chat, one document after the other. */
export async function* chat(body, signal) {
  const response = await ask(body, signal);
  let isComplete = false;
  for await (const data of eventsOf(response.body, signal)) {
    if (data === "[DONE]") {
      isComplete = true;
      continue;
    }
    const piece = JSON.parse(data);
    if (piece.error) throw new ApiError(piece.error.message);
    yield piece;
  }
  if (!isComplete) throw new ApiError(BROKEN_OFF);
}

async function ask(body, signal) {
  let response;
  try {
    response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, stream: true }),
      signal,
    });
  } catch (error) {
    throw signal.aborted ? error : new ApiError(UNREACHABLE);
  }
  if (!response.ok) throw new ApiError(await refusal(response));
  return response;
}

async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The daemon answered with status ${response.status}; its log says more.`;
  }
}

/** The data of server-sent events, as they come; comments are passed over. */
async function* eventsOf(stream, signal) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await read(reader, signal);
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        if (event.startsWith("data: ")) yield event.slice("data: ".length);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function read(reader, signal) {
  try {
    return await reader.read();
  } catch (error) {
    throw signal.aborted ? error : new ApiError(BROKEN_OFF);
  }
}
