import { mount } from "svelte";
import Alerts from "./Alerts.svelte";

const { VITE_URL = "ws://127.0.0.1:8765/prod", VITE_HTTP_URL = "http://127.0.0.1:8766" } = import.meta.env;

mount(Alerts, { target: document.getElementById("app"), props: { url: VITE_URL, httpUrl: VITE_HTTP_URL } });
