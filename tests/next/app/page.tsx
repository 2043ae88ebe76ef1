import { Alerts } from "./Alerts";

// Rendered for each request, with the addresses that the server has then.
export const dynamic = "force-dynamic";

export default function Page() {
  return <Alerts url={process.env.ALERTS_URL!} httpUrl={process.env.ALERTS_HTTP_URL!} />;
}
