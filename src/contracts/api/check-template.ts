/** Checks the rules that involve several containers, and reports each violation with its path. */
export function checkContainers(
  containers: readonly { name: string; memoryPercent: number }[],
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  const seen = new Set<string>();
  for (const [position, container] of containers.entries()) {
    if (container.name === "infra")
      addIssue(["containers", position, "name"], '"infra" is the name of the infra container');
    if (seen.has(container.name))
      addIssue(["containers", position, "name"], `the name "${container.name}" is used twice`);
    seen.add(container.name);
  }
  const memoryPercent = containers.reduce((sum, container) => sum + container.memoryPercent, 0);
  if (memoryPercent > 100) {
    addIssue(
      ["containers"],
      `the containers' memory adds up to ${memoryPercent}% of the set; expected at most 100%`,
    );
  }
}

/** Checks that each path of a container is mounted once, and that /dev/shm fits into the memory. */
export function checkMounts(
  template: {
    memory: number;
    shm?: number | undefined;
    volume?: { mountPath: string } | undefined;
    containers: readonly { options: { tmpfs?: readonly { mountPath: string }[] | undefined } }[];
  },
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  if (template.shm !== undefined && template.shm > template.memory)
    addIssue(["shm"], "expected at most the memory of the set");
  for (const [position, { options }] of template.containers.entries()) {
    const seen = new Set([template.volume?.mountPath]);
    for (const [index, { mountPath: path }] of (options.tmpfs ?? []).entries()) {
      if (seen.has(path))
        addIssue(
          ["containers", position, "options", "tmpfs", index, "mountPath"],
          `"${path}" is mounted twice`,
        );
      seen.add(path);
    }
  }
}

/** The length of the text in UTF-8. */
export function utf8Bytes(text: string): number {
  let bytes = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    // A surrogate pair takes four bytes, two for each half.
    const isSurrogate = code >= 0xd800 && code <= 0xdfff;
    bytes += code < 0x80 ? 1 : code < 0x800 || isSurrogate ? 2 : 3;
  }
  return bytes;
}
