// Numbers of the application and of the service.

/** Returns a number within bounds, and the least one for anything else: the service may send any JSON. */
export const clamp = (min: number, value: number, max: number): number =>
  value >= min ? Math.min(value, max) : min;

/**
 * Throws a `TypeError` that names the first of `options` that is given and less than its minimum. What is undefined or
 * null has its default.
 */
export function checkNumbers<Name extends string>(
  options: { [Key in NoInfer<Name>]?: number },
  minima: { [Key in Name]: number },
): void {
  for (const option in minima) {
    const min = minima[option];
    if ((options[option] ?? min) >= min) continue;
    throw TypeError(`invalid ${option} "${options[option]}": expected at least ${min}`);
  }
}

/** Returns a number of alerts. Throws a `TypeError` that names the option if its value is not a whole number from 0. */
export function wholeNumber(option: string, value: number): number {
  if (value >= 0 && !(value % 1)) return value;
  throw TypeError(`invalid ${option} "${value}": expected a whole number from 0, or Infinity`);
}
