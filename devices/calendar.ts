/** Days and dates of the proleptic Gregorian calendar, as whole numbers: no time zone, no clock. */
export interface CivilDate {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  /** 1 to 31. */
  readonly day: number;
}

/** Days from 1 March of year 0 to the start of the civil year's March, for year, month 3..14. */
function daysBeforeYear(year: number): number {
  return 365 * year + Math.floor(year / 4) - Math.floor(year / 100) + Math.floor(year / 400);
}

/** Days from 1 March to the first of the month, counting months from March as 0: the lengths repeat every five months. */
function daysBeforeMonth(monthFromMarch: number): number {
  return Math.floor((153 * monthFromMarch + 2) / 5);
}

const EPOCH = daysBeforeYear(1969) + daysBeforeMonth(10); // 1 January 1970

/** Days from 1 January 1970. A day past the month's end counts on into the next. */
export function daysOf(date: CivilDate): number {
  // The year starts in March here, so that the leap day is its last.
  const year = date.month > 2 ? date.year : date.year - 1;
  return daysBeforeYear(year) + daysBeforeMonth((date.month + 9) % 12) + date.day - 1 - EPOCH;
}

export function dateOf(days: number): CivilDate {
  const n = days + EPOCH;
  let year = Math.floor(n / 365.2425) + 1;
  while (daysBeforeYear(year) > n) year--;
  const day = n - daysBeforeYear(year);
  const monthFromMarch = Math.floor((5 * day + 2) / 153);
  const month = (monthFromMarch + 2) % 12 + 1;
  return { year: month > 2 ? year : year + 1, month, day: day - daysBeforeMonth(monthFromMarch) + 1 };
}

/** The day of the week, 0 for Sunday. */
export function weekdayOf(days: number): number {
  return (((days + 4) % 7) + 7) % 7;
}
