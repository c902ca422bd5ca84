export const maintenanceStates = ["planned", "active", "ended", "canceled"] as const;
export type MaintenanceState = (typeof maintenanceStates)[number];

export const maintenanceActions = ["cordon", "drain"] as const;
export type MaintenanceAction = (typeof maintenanceActions)[number];
