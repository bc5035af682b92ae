/** `2026-Q4`, in UTC. */
export function quarterOf(at: Date): string {
  return `${at.getUTCFullYear()}-Q${Math.floor(at.getUTCMonth() / 3) + 1}`;
}

/** Share of the test groups of now that were not there when the spending period began; 0 before the first. */
export function refreshedShare(before: readonly string[] | null, now: readonly string[]): number {
  if (before === null || now.length === 0) return 0;
  const known = new Set(before);
  return now.filter((group) => !known.has(group)).length / now.length;
}
