const digestPattern = /@sha256:[0-9a-f]{64}$/;
const tagPattern = /:[\w][\w.-]{0,127}$/;

/**
 * An image reference as the daemon lists it: without its own registry and that one's "library/", with the tag "latest" if it has none,
 * and without a tag if it has a digest (Docker's "familiar" names).
 */
export function familiarName(reference: string): string {
  const [digest = ""] = digestPattern.exec(reference) ?? [];
  let name = reference.slice(0, reference.length - digest.length);
  const [tag = ""] = tagPattern.exec(name) ?? [];
  name = name.slice(0, name.length - tag.length);
  name = name.replace(/^(?:index\.)?docker\.io\//, "").replace(/^library\//, "");
  return `${name}${digest || tag || ":latest"}`;
}
