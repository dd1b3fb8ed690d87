// Asks the server. What it refuses arrives as an Error with its words.

export async function ask(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  const response = await fetch(`/api/${path}${query ? `?${query}` : ""}`, { credentials: "same-origin" });
  const content = await response.json();
  if (!response.ok) throw new Error([content.error, content.hint].filter(Boolean).join(" \u2014 "));
  return content;
}

/** Calls `onState` whenever there is more to see, and `onLost` with whether the server is gone. */
export function follow(onState, onLost) {
  const events = new EventSource("/api/events");
  events.onopen = () => onLost(false);
  events.onmessage = (event) => onState(JSON.parse(event.data));
  events.onerror = () => onLost(true);
  return events;
}
