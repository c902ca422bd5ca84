-- Why: events could not be filtered by kind at size: a host-lost among millions of events of sets was found by walking
-- backwards. The index leaves out the kinds that every set causes, so the hot path writes no entry more.
-- Locks: SHARE on events while the index is built: writes wait, about a second per million events.
-- Rollback: drop the index.
CREATE INDEX "events_rare_kind" ON "events" USING btree ("kind","id") WHERE kind not in ('set-placed', 'set-rejected', 'set-preparing', 'set-starting', 'set-running', 'set-ready', 'set-stopping', 'set-stopped', 'set-removed');