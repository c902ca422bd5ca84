/**
 * The name of every set's infra container. The template schema reserves it
 * (contracts/api/set-template.ts).
 */
export const INFRA_CONTAINER = "infra";

export function isInfra(container: { name: string }): boolean {
  return container.name === INFRA_CONTAINER;
}
