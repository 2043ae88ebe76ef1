/** Returns the name of a region as the service has it. Throws a `RangeError` if it is invalid. */
export function nameOf(region: string): string {
  const name = (region?.trim?.() ?? "").toUpperCase();
  if (/^[A-Z][A-Z0-9-]{1,15}$/.test(name)) return name;
  throw RangeError(`invalid region "${region}": expected a name like PL`);
}
