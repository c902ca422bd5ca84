/**
 * Files of the environment are unreadable, and nothing else is wrong. Another start may succeed,
 * because a mount or another service may provide the files later. The message names the variables.
 */
export class UnreadableFileError extends Error {
  override readonly name = "UnreadableFileError";
}

/** The environment is invalid. The message names every invalid variable, and no value. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}
