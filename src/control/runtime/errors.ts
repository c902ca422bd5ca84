import { AppError } from "../../contracts/common/app-error.ts";
import { toAppError } from "../../db/errors.ts";

/** What a driver threw in a read outside of a transaction, as AppError; everything else unchanged. */
export function translateError(error: unknown): unknown {
  return error instanceof AppError ? error : toAppError(error);
}
