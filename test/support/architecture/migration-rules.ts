import { z } from "zod";

const journalSchema = z.object({
  entries: z.array(z.object({ idx: z.number(), when: z.number(), tag: z.string() })),
});

/**
 * Finds violations in a migration journal and its files. drizzle silently skips a migration whose
 * `when` is not newer than that of the last applied one, for example after a late merge. In that
 * case, generate the migration again.
 */
export function findJournalProblems(journal: unknown, sqlFiles: readonly string[]): string[] {
  const { entries } = journalSchema.parse(journal);
  const problems: string[] = [];
  entries.forEach((entry, position) => {
    const previous = entries[position - 1];
    if (entry.idx !== position)
      problems.push(`${entry.tag}: idx ${entry.idx} at place ${position}`);
    if (previous !== undefined && entry.when <= previous.when) {
      problems.push(`${entry.tag}: not newer than ${previous.tag}, it would be skipped`);
    }
    if (!sqlFiles.includes(`${entry.tag}.sql`)) problems.push(`${entry.tag}: its file is missing`);
  });
  for (const file of sqlFiles) {
    if (!entries.some((entry) => `${entry.tag}.sql` === file)) problems.push(`${file}: not listed`);
  }
  return problems;
}
