import { resizeServiceBody } from "../../contracts/api/services.ts";
import { resizeService } from "../../control/services/resize-service.ts";
import { defineServiceChange } from "./define-service-change.ts";

export const resizeServiceOperation = defineServiceChange({
  path: "resize",
  operationId: "resizeService",
  summary: "Change the size of the sets of a service without a restart",
  description:
    "Changes CPU and memory, and enlarges volumes. Berth books the new size of all sets or of none. Then the agent of each host changes the running sets.",
  body: resizeServiceBody,
  problemCodes: ["quota-exceeded", "capacity-insufficient"],
  run: resizeService,
});
