import { AppError } from "../../contracts/common/app-error.ts";
import { toAppError } from "../../db/errors.ts";

/** Converts the driver's error of a read outside of a transaction to an AppError. */
export function translateError(error: unknown): unknown {
  return error instanceof AppError ? error : toAppError(error);
}
