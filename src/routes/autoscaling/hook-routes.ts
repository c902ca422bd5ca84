import { AppError } from "../../contracts/common/app-error.ts";
import { type Api, mount } from "../http/operation.ts";
import {
  receiveAlertmanagerHandler,
  receiveAlertmanagerRoute,
  receiveFalconHandler,
  receiveFalconJsonHandler,
  receiveFalconJsonRoute,
  receiveFalconRoute,
  receiveGenericHandler,
  receiveGenericRoute,
  receiveGrafanaHandler,
  receiveGrafanaRoute,
  receiveZabbixHandler,
  receiveZabbixRoute,
} from "./receive-delivery.ts";

/**
 * About 16,000 alerts with 2 KiB of labels and annotations each. A larger delivery gets 503,
 * because senders drop their alerts after a 413. A later delivery with fewer firing alerts fits.
 */
const limits = {
  bodyBytesMax: 32 * 2 ** 20,
  acceptsAnyText: true,
  tooLarge: (bytesMax: number) =>
    new AppError("delivery-too-large", {
      detail: `A delivery may have at most ${bytesMax} bytes. Group the alerts by more labels.`,
      retryAfterMs: 10_000,
    }),
};

export function mountHooks(api: Api): void {
  mount(api, receiveAlertmanagerRoute, receiveAlertmanagerHandler, limits);
  mount(api, receiveGrafanaRoute, receiveGrafanaHandler, limits);
  mount(api, receiveZabbixRoute, receiveZabbixHandler, limits);
  mount(api, receiveFalconRoute, receiveFalconHandler, limits);
  mount(api, receiveFalconJsonRoute, receiveFalconJsonHandler, limits);
  mount(api, receiveGenericRoute, receiveGenericHandler, limits);
}
