import { scaleServiceBody } from "../../contracts/api/services.ts";
import { scaleService } from "../../control/services/scale-service.ts";
import { defineServiceChange } from "./define-service-change.ts";

export const scaleServiceOperation = defineServiceChange({
  path: "scale",
  operationId: "scaleService",
  summary: "Set the number of sets of a service",
  description: "The number is absolute, so a repeated request changes nothing.",
  body: scaleServiceBody,
  problemCodes: ["quota-exceeded", "grant-missing"],
  run: scaleService,
});
