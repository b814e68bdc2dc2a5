// Formats of numbers, times and words. Numbers are decimal strings: Intl formats a string exactly, while a
// JavaScript number would be rounded.

const NONE = "—";

// Users type prices with a decimal point, so prices are shown with one in every language.
const decimals = (minimum, maximum, more = {}) => {
  const formatter = new Intl.NumberFormat("en-US", {
    minimumFractionDigits: minimum,
    maximumFractionDigits: maximum,
    ...more,
  });
  return (value) => (isNone(value) ? NONE : formatter.format(value).replace("-", "−"));
};

const isNone = (value) => value === null || value === undefined || value === "";

/** A price per share, with two to four decimals. */
export const price = decimals(2, 4);
/** An amount in the account's currency. */
export const money = decimals(2, 2);
/** An amount with its sign, + or −. Zero has none. */
export const signedMoney = decimals(2, 2, { signDisplay: "exceptZero" });
/** A fraction as a percentage with its sign: "0.0123" is +1.23%. */
export const signedPercent = decimals(2, 2, { style: "percent", signDisplay: "exceptZero" });
const currencies = new Map();

/** An amount with the sign of its currency, such as $150.50. */
export function amount(value, currency) {
  if (!currency) return money(value);
  if (!currencies.has(currency)) {
    currencies.set(currency, new Intl.NumberFormat("en-US", { style: "currency", currency }));
  }
  return currencies.get(currency).format(value);
}

/** The exact sum of two decimal strings. No number if one of them is none. */
export function sum(one, other) {
  if (isNone(one) || isNone(other)) return null;
  const places = Math.max(...[one, other].map((value) => (value.split(".")[1] ?? "").length));
  const units = (value) => {
    const [whole, rest = ""] = value.split(".");
    return BigInt(whole + rest.padEnd(places, "0"));
  };
  const total = units(one) + units(other);
  const digits = String(total < 0 ? -total : total).padStart(places + 1, "0");
  const point = digits.length - places;
  return `${total < 0 ? "-" : ""}${digits.slice(0, point)}${places ? `.${digits.slice(point)}` : ""}`;
}

/** A number of shares, with up to nine decimals. */
export const quantity = decimals(0, 9);

/** The direction of a number: "up", "down", or "" for zero and for no number. */
export function direction(value) {
  const number = Number(value ?? 0);
  if (number > 0) return "up";
  return number < 0 ? "down" : "";
}

/** "1 order", "2 orders". */
export const plural = (count, one, many = `${one}s`) => `${quantity(count)} ${count === 1 ? one : many}`;

/** A job's count, such as orders_filled: 1 as "1 order filled". */
export function counted(name, count) {
  const [noun, ...rest] = name.split("_");
  const one = noun.replace(/ies$/, "y").replace(/s$/, "");
  return [plural(count, one, noun), ...rest].join(" ");
}

/** A word of the API for people: partially_filled as "partially filled". */
export const words = (text) => text.replaceAll("_", " ");

export const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const clock = new Intl.DateTimeFormat("en-US", { timeStyle: "medium", hourCycle: "h23" });
const dayAndClock = new Intl.DateTimeFormat("en-US", {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const everything = new Intl.DateTimeFormat("en-US", { dateStyle: "full", timeStyle: "long", hourCycle: "h23" });

/** An ISO time in the user's time zone, with the date unless it is today. */
export function time(iso, now = new Date()) {
  if (isNone(iso)) return NONE;
  const moment = new Date(iso);
  return (moment.toDateString() === now.toDateString() ? clock : dayAndClock).format(moment);
}

/** An ISO time in full, for a tooltip. */
export const fullTime = (iso) => (isNone(iso) ? "" : everything.format(new Date(iso)));

export const timeZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone.replaceAll("_", " ");

/** The time between two ISO times: "40 ms", "2.5 s", "3 min 5 s". */
export function duration(from, to) {
  const milliseconds = new Date(to) - new Date(from);
  if (milliseconds < 1000) return `${milliseconds} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${Math.floor(milliseconds / 60_000)} min ${Math.floor((milliseconds % 60_000) / 1000)} s`;
}

const UNITS = { s: "second", m: "minute", h: "hour", d: "day" };

/** A job's schedule: "10m" as "every 10 minutes", "1m" as "every minute". Others are shown unchanged. */
export function every(schedule) {
  if (schedule === "off") return "no schedule";
  const [, count, unit] = /^(\d+)([smhd])$/.exec(schedule) ?? [];
  if (!unit) return schedule;
  return count === "1" ? `every ${UNITS[unit]}` : `every ${count} ${UNITS[unit]}s`;
}
