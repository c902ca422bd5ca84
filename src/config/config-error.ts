/** The environment is invalid. The message names every invalid variable, and no value. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}
