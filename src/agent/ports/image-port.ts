export interface FetchedImage {
  imageId: string;
  /** The digest in the registry; undefined for an image that only this daemon has. */
  digest?: string | undefined;
}

/**
 * The images of the daemon. A call rejects with AgentError. DiskPort (disk-port.ts) deletes unused
 * images.
 */
export interface ImagePort {
  /** True if the daemon has the image, and the tenant may use it. */
  isUsable(image: { reference: string; tenant: string }, signal: AbortSignal): Promise<boolean>;
  /**
   * True if the daemon has the image, but only because others have pulled it with their
   * credentials. The tenant must pull it, too. It costs nothing on a host without such images.
   */
  needsOwnPull(image: { reference: string; tenant: string }, signal: AbortSignal): Promise<boolean>;
  /**
   * Pulls an image from the registry in its name. Concurrent pulls of one image by one tenant share
   * one pull. The adapter limits the pulls of the host, and tenants take turns.
   *
   * Codes: image-not-found (permanent), image-unavailable (temporary), docker-unavailable.
   */
  pull(image: { reference: string; tenant: string }, signal: AbortSignal): Promise<void>;
  /**
   * Pulls an image like `pull`, although the daemon may have an older one with this tag. An image
   * that only this daemon has needs no registry.
   */
  prefetch(
    image: { reference: string; tenant: string },
    signal: AbortSignal,
  ): Promise<FetchedImage>;
  /** Lists the references of all images, sorted. */
  list(signal: AbortSignal): Promise<string[]>;
  /** The reference of the infra image, which the daemon had at the first call. */
  infraImage(): Promise<string>;
  /** Creates the infra image again if the daemon has lost it, and returns its reference. */
  restoreInfraImage(): Promise<string>;
}
