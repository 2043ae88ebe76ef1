// Positions as the service and this client write them: shared/src/forms.rs has their number.

import { expect, test } from "vitest";
import golden from "../../shared/forms/positions.1.json" with { type: "json" };
import { newStorage, pass, start } from "./application.js";
import { service } from "./current.js";
import { on } from "./legs.js";
import { parseCursor } from "./service.js";

const KEY = "viral-alerts wss://service.example/prod true";

test("positions are kept and sent as the golden file has them, also those of a form 2 that adds a field", async () => {
  const { several } = golden;
  const later = Object.fromEntries(
    Object.entries(several).map(([region, position]) => [region, { form: 2, ...position, from_form_2: "more" }]),
  );
  for (const kept of [several, { form: 2, ...later, PL: later["PL"]! }]) {
    const storage = newStorage();
    storage.setItem(KEY, JSON.stringify(kept));
    const { client } = start(service, { regions: ["DE", "PL"], storage });
    await pass(100);
    const after = service.requests.map(({ searchParams }) => searchParams.get("after")).find(Boolean);
    const since = service.messages.find(({ type }) => type === "subscribe_region")?.since;
    expect(on({ gateway: since, events: parseCursor(after ?? "") })).toMatchObject(several);
    service.publish("PL");
    await pass(100);
    // A client that moves on keeps what was added beside the number.
    const written = JSON.parse(storage.getItem(KEY)!) as typeof several;
    expect(Object.keys(written)).toEqual(Object.keys(several));
    expect(Object.keys(written.PL)).toEqual(Object.keys(kept.PL));
    service.messages.length = service.requests.length = 0;
    client.close();
  }
});
