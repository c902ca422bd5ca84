/** The domain of all names of services and sets. `internal` is reserved for private use. */
export const NAMES_DOMAIN = "berth.internal";
