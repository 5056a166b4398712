// The function's entry point: routing, and nothing of what the routes compute.
//
// | request | answer |
// |---|---|
// | `GET /search?q=lmap&limit=3` | products whose name is nearest, as JSON |
// | `POST /orders` with a JSON array | checked, grouped and summed, with a digest |
// | `GET /events?count=5&pause_ms=200` | server-sent events, one by one |
// | `GET /relay/two/three` | calls function `two` of the application, which calls `three` |

import { BadOrder, summary } from "./orders.js";
import { NotRelayed, passOn } from "./relay.js";
import { search } from "./search.js";

// An order list is parsed as a whole.
const BODY_BYTES_MAX = 1 << 20;
const EVENTS_MAX = 1000;
const PAUSE_MS_MAX = 10_000;

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const url = new URL(request.url);
  let response;
  try {
    response = await route(request, url);
  } catch (error) {
    if (error instanceof BadOrder) {
      response = json(400, { error: error.message });
    } else if (error instanceof NotRelayed) {
      response = json(502, { error: error.message });
    } else {
      console.error(error);
      response = json(500, { error: "internal error" });
    }
  }
  console.log(`${request.method} ${url.pathname} ${response.status}`);
  return response;
}

async function route(request, url) {
  if (request.method === "GET" && /^\/relay(\/|$)/.test(url.pathname)) {
    return json(200, await passOn(url.pathname));
  }
  switch (`${request.method} ${url.pathname}`) {
    case "GET /search":
      return json(200, search(url.searchParams.get("q") ?? "", number(url, "limit", 3, 20)));
    case "POST /orders": {
      const text = await request.text();
      if (text.length > BODY_BYTES_MAX) {
        throw new BadOrder(`the list is longer than ${BODY_BYTES_MAX} characters`);
      }
      return json(200, await summary(text));
    }
    case "GET /events":
      return events(number(url, "count", 5, EVENTS_MAX), number(url, "pause_ms", 0, PAUSE_MS_MAX));
    default:
      return json(404, { error: "no such path", try: ["/search?q=", "/orders", "/events", "/relay"] });
  }
}

function number(url, name, fallback, max) {
  const value = Number.parseInt(url.searchParams.get(name) ?? fallback, 10);
  return Number.isNaN(value) ? fallback : Math.min(Math.max(value, 0), max);
}

function json(status, value) {
  return new Response(`${JSON.stringify(value, null, 2)}\n`, {
    status,
    headers: { "content-type": "application/json" },
  });
}

/** Each event is sent when it happens: the next one is made only when asked for. */
function events(count, pauseMs) {
  const encoder = new TextEncoder();
  let index = 0;
  const body = new ReadableStream({
    async pull(controller) {
      if (index >= count) {
        controller.close();
        return;
      }
      if (index > 0 && pauseMs > 0) {
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
      index += 1;
      const data = JSON.stringify({ index, of: count, at: new Date().toISOString() });
      controller.enqueue(encoder.encode(`id: ${index}\nevent: tick\ndata: ${data}\n\n`));
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream", "cache-control": "no-store" } });
}
