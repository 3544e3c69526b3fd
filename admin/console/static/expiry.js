// How long certificates have.

import { badge, plural } from "./dom.js";

const day = 86_400_000;
const soon = 30; // days

export const daysLeft = (iso) => Math.floor((new Date(iso) - Date.now()) / day);

// expiry says how long a certificate has; brief says it only where it matters.
export function expiry(iso, brief = false) {
  const days = daysLeft(iso);
  const expired = new Date(iso) <= Date.now();
  if (expired) return badge("error", days === -1 ? "Expired" : `Expired ${plural(-days - 1, "day")} ago`);
  if (days < soon) return badge("warn", days === 0 ? "Less than a day left" : `${plural(days, "day")} left`);
  return brief ? null : badge("off", `${plural(days, "day")} left`);
}
