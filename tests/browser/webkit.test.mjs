// The client and the demo page in a real WebKitGTK, which has the engine of Safari.

import { after, before } from "node:test";
import { testIn } from "./everywhere.mjs";
import { WebKit } from "./webkit.mjs";

let webKit;

before(async () => {
  webKit = await WebKit.launch();
});
after(() => webKit?.close());

testIn(() => webKit);
