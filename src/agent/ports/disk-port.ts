/** What Docker keeps on its disk, and what the agent may take away of it. */
export interface DiskPort {
  /** The daemon goes through all containers' files for it, which takes seconds where there are many. */
  use(signal: AbortSignal): Promise<DiskUse>;
  /** Of the disk that Docker is on, what is taken, by whomever: 0 to 1. No Docker call. */
  usedShare(): Promise<number>;
  /**
   * Removes an image by the reference that this agent pulled it by. False when a container uses it, or somebody else brought it: it is
   * left alone then. Other references to it keep it.
   */
  removeImage(reference: string, signal: AbortSignal): Promise<boolean>;
}

export interface DiskUse {
  /** Layers of all images, each once. */
  imageBytes: number;
  /** What all containers, whoever's, have written to their root file systems. */
  containerBytes: number;
  /** Of that, each container's of this host's sets, by its Docker id. */
  rootfsBytes: ReadonlyMap<string, number>;
  /** References that this agent pulled images by, so that they can be pulled again. */
  pulledImages: PulledImage[];
}

export interface PulledImage {
  reference: string;
  /** A container is made of it, running or not, whoever's. */
  isUsed: boolean;
}
