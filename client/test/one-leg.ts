// What runs on one leg alone, with the reasons. Every other test runs on both: setup.ts skips only what is named here,
// and one-leg.test.ts checks the list.

export const LEGS = ["gateway", "events"] as const;
export type Leg = (typeof LEGS)[number];

/** Files of one leg, by reason. Those without a leg run beside the gateway's. */
export const FILES: Record<Leg, Record<string, string[]>> = {
  gateway: {
    "no connection": ["toast", "one-leg"],
    "the model in Rust knows the WebSocket API alone": ["replay"],
  },
  events: {
    "the protocol of AppSync, looks at the log, and changes of leg": [
      "events",
      "events-channels",
      "events-connections",
      "events-leg",
      "events-looks",
    ],
  },
};

/** Tests of one leg in the files that run on both, by reason. Names are as the sources have them. */
export const TESTS: Record<Leg, Record<string, string[]>> = {
  gateway: {
    "advice of the WebSocket API: AppSync gives none": [
      "a window that the service advises for a restart is not made smaller",
      "a connection is replaced when the service advises it",
      "an advice of %j milliseconds makes no storm",
      "a connection is replaced within a day, whatever is advised",
      "a pause of %j milliseconds has bounds",
    ],
    "frames of docs/protocol.md that AppSync does not have": [
      "a lost subscription shows at the next keepalive, although nothing was published",
      "a keepalive of ALL with the longest positions of 300 regions fits in a frame",
      "a service that does not know the message is asked for everything again",
      "a connection that the service takes for closed is replaced at its next %s",
      "a keepalive and a subscription that %s holds back are repeated",
      "what is rate limited is repeated when the service says, and not before",
      "a push of the other form is not taken for an answer",
      "a keepalive whose answer is not as promised ends the connection",
    ],
    "ten silent minutes of API Gateway: events-looks.test.ts has the silence of a client of AppSync": [
      "a message is sent after 9.5 minutes of silence and not before",
    ],
    "answers that carry what was missed: AppSync has none, so its leg requires httpUrl and waits for it": [
      "without HTTP, what an answer under ALL leaves out is asked for alone, for any number of regions",
      "without HTTP, what does not fit with other regions is asked for alone",
      "without HTTP, what does not fit alone is a gap, and the client goes on",
      "what HTTP refuses to read with %i is a gap after five requests",
      "watching ALL while a new log is fetched asks for nothing else",
    ],
    "alerts that reach everyone: there are none with an Event API": [
      "an alert of a region that is not watched is told once, marked, and nothing is kept or asked for",
      "several of one region are told in any order, and each once",
      "a region that is watched keeps its order, whatever reached everyone before",
      "a position of an earlier visit does not hold an alert to everyone back",
      "each tab is told once, whether it leads, and whatever it watches",
      "repeats are told apart among the newest hundred, so that nothing grows",
      "what reached everyone is taken back where it was told, and is not told after that",
      "what reached everyone, and what was taken back, is not shown as an alert from before",
      "nor is one that reached everyone, and one of the same number of another region is",
    ],
    "prices of API Gateway": ["the figures that the cost model reckons with are those of the client"],
    "the two hours of API Gateway: events-connections.test.ts has the day of AppSync": [
      "before the two hours a new connection is opened first, and then the old one closed",
    ],
  },
  events: { "prices of AppSync": ["the cost model of the Event API reckons with what a client does there"] },
};

/** Returns why the test is not for `leg`, if so. Names of tests with parameters have these in the places of `%…`. */
export function reasonAgainst(leg: Leg, test: string): string | undefined {
  const fits = (name: string): boolean =>
    new RegExp(`^${name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&").replace(/%[a-z]/g, "[^]*")}$`).test(test);
  const others = LEGS.filter((other) => other !== leg).flatMap((other) => Object.entries(TESTS[other]));
  return others.find(([, names]) => names.some(fits))?.[0];
}
