import { type Api, mount } from "../operation.ts";
import {
  receiveAlertmanagerHandler,
  receiveAlertmanagerRoute,
  receiveGenericHandler,
  receiveGenericRoute,
} from "./receive-delivery.ts";

/** A thousand alerts with their labels and annotations; what they carry beyond the rules is not stored as it is. */
const limits = { bodyBytesMax: 4 * 2 ** 20, takesAnyText: true };

export function mountHooks(api: Api): void {
  mount(api, receiveAlertmanagerRoute, receiveAlertmanagerHandler, limits);
  mount(api, receiveGenericRoute, receiveGenericHandler, limits);
}
