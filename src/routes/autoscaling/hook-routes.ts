import { AppError } from "../../contracts/common/app-error.ts";
import { type Api, mount } from "../http/operation.ts";
import {
  receiveAlertmanagerHandler,
  receiveAlertmanagerRoute,
  receiveGenericHandler,
  receiveGenericRoute,
} from "./receive-delivery.ts";

/**
 * Some 16,000 alerts with 2 KiB of labels and annotations each; what they carry beyond the rules is not stored as it is. What
 * is larger still is answered 503: after a 413 Alertmanager would drop it, where later, with fewer alerts firing, it fits.
 */
const limits = {
  bodyBytesMax: 32 * 2 ** 20,
  takesAnyText: true,
  tooLarge: (bytesMax: number) =>
    new AppError("dependency-unavailable", {
      detail: `A delivery may have at most ${bytesMax} bytes: group alerts finer, or set max_alerts.`,
      retryAfterMs: 10_000,
    }),
};

export function mountHooks(api: Api): void {
  mount(api, receiveAlertmanagerRoute, receiveAlertmanagerHandler, limits);
  mount(api, receiveGenericRoute, receiveGenericHandler, limits);
}
