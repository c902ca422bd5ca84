import { expect, it } from "vitest";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { chooseForPlacements } from "./choose-for-placements.ts";

const noDatabase = new Proxy({} as Queryable, {
  get: () => {
    throw new Error("a statement was sent");
  },
});

it("sets without addresses and published ports cost no statement", async () => {
  const placement = { setId: "set", hostId: "host", generation: 1 };
  const { placements, chosen } = await chooseForPlacements(noDatabase, [placement], {
    requests: new Map([["set", { templateNetworks: null, publishedPorts: [] }]]),
    hosts: new Map([["host", { features: [] }]]),
    range: { first: 20_000, last: 32_767 },
  });
  expect(placements).toEqual([placement]);
  expect(chosen.hostPorts).toEqual([]);
});
