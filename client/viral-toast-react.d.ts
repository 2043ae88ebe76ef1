// Types of <viral-toast> in the JSX of React 19. It is written by hand, as React is not a dependency of the client:
//
//   import type {} from "viral-alerts/toast/react";

import type { DetailedHTMLProps, HTMLAttributes } from "react";
import type { ViralToastElement, ViralToastEventMap } from "./viral-toast.js";

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "viral-toast": DetailedHTMLProps<HTMLAttributes<ViralToastElement>, ViralToastElement> & {
        duration?: number | string;
        max?: number | string;
        hotkey?: string;
        "dismiss-label"?: string;
        headline?: ViralToastElement["headline"];
        href?: ViralToastElement["href"];
        onactivate?: (event: ViralToastEventMap["activate"]) => void;
        ondismiss?: (event: ViralToastEventMap["dismiss"]) => void;
      };
    }
  }
}
