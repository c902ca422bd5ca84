/** Docker's usage of its disk, and the images that the agent may delete. */
export interface DiskPort {
  /**
   * Measures disk usage. The daemon walks the files of all containers, which takes seconds on a
   * host with many.
   */
  measure(signal: AbortSignal): Promise<DiskUsage>;
  /**
   * Lists the references of images that this agent pulled. A registry can serve each of them again.
   * It reads no files, so it answers even if a measurement takes too long.
   */
  listPulledImages(signal: AbortSignal): Promise<PulledImage[]>;
  /**
   * The used share of the disk that Docker is on, by all its users, from 0 to 1. Calls no Docker
   * API.
   */
  usedShare(): Promise<number>;
  /**
   * Deletes an image by the reference that this agent pulled it by. Other references to the image
   * stay. Returns false, and deletes nothing, if a container uses the image or if this agent did
   * not pull it.
   */
  removeImage(reference: string, signal: AbortSignal): Promise<boolean>;
}

export interface DiskUsage {
  /** Bytes of all image layers, each layer counted once. */
  imageBytes: number;
  /** Bytes that all containers on the machine have written to their root file systems. */
  containerBytes: number;
  /**
   * Bytes that each container of this host's sets has written, by its Docker id. Part of
   * `containerBytes`.
   */
  rootfsBytes: ReadonlyMap<string, number>;
}

export interface PulledImage {
  reference: string;
  /** True if any container on the machine uses the image, running or not. */
  isUsed: boolean;
}
