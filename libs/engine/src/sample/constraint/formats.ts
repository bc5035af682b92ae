/** Patterns of the formats of JSON Schema: each describes only valid values, not every one. */

const DAY = '((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))';
const DATE = `[0-9]{4}-${DAY}`;
const TIME = '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])';
const OCTET = '(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])';
const LABEL = '[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?';

export const FORMATS: Readonly<Record<string, string>> = {
  date: `^${DATE}$`,
  time: `^${TIME}$`,
  'date-time': `^${DATE}T${TIME}$`,
  duration: '^P([1-9][0-9]{0,2}D|T[1-9][0-9]{0,2}[HMS])$',
  uuid: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
  ipv4: `^${OCTET}(\\.${OCTET}){3}$`,
  hostname: `^${LABEL}(\\.${LABEL}){0,3}$`,
  email: `^[A-Za-z0-9_+-]{1,20}(\\.[A-Za-z0-9_+-]{1,20}){0,2}@${LABEL}(\\.${LABEL}){1,2}$`,
  uri: `^https?://${LABEL}(\\.${LABEL}){1,2}(/[A-Za-z0-9_~-]{1,20}){0,4}$`,
};
