import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Alerts } from "./Alerts";

const { VITE_URL = "ws://127.0.0.1:8765/prod", VITE_HTTP_URL = "http://127.0.0.1:8766" } = import.meta.env;

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <Alerts url={VITE_URL} httpUrl={VITE_HTTP_URL} />
  </StrictMode>,
);
