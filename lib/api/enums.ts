/**
 * @file Finds enum numbers that the schema does not name. proto3 enums are open, so the decoder keeps them; a server that
 * ignored them would do something else than it was asked.
 */
import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";

/** One enum field with a number that is not in the schema. */
export interface UnknownEnum {
  /** Path from the request, in proto names: `items[3].mood`. */
  field: string;
  /** The number that arrived. */
  value: number;
  /** Names that would be accepted. */
  accepted: string[];
}

/** Collects at most `limit` unknown enum numbers in a message and everything inside it. Default limit: 20. */
export function findUnknownEnums(schema: DescMessage, message: Message, limit = 20): UnknownEnum[] {
  const found: UnknownEnum[] = [];
  if (holdsEnums(schema)) walk(schema, message, "", found, limit);
  return found;
}

const withEnums = new WeakMap<DescMessage, boolean>();

/** Whether an enum can occur in a message of this type, at any depth. Remembered per type. */
function holdsEnums(schema: DescMessage): boolean {
  const known = withEnums.get(schema);
  if (known !== undefined) return known;
  const reachable = new Set<DescMessage>([schema]);
  let found = false;
  for (const message of reachable) {
    for (const field of message.fields) {
      if (field.enum) found = true;
      else if (field.message) reachable.add(field.message);
    }
  }
  withEnums.set(schema, found);
  return found;
}

function walk(
  schema: DescMessage,
  message: Message,
  prefix: string,
  found: UnknownEnum[],
  limit: number,
): void {
  for (const field of schema.fields) {
    if (found.length >= limit) return;
    if (!field.enum && !(field.message && holdsEnums(field.message))) continue;
    const value = fieldValue(message, field);
    if (value === undefined) continue;
    const path = `${prefix}${field.name}`;
    if (field.fieldKind === "list") {
      (value as unknown[]).forEach((item, i) => {
        visit(field, item, `${path}[${i}]`, found, limit);
      });
    } else if (field.fieldKind === "map") {
      for (const [key, item] of Object.entries(value)) {
        visit(field, item, `${path}[${JSON.stringify(key)}]`, found, limit);
      }
    } else {
      visit(field, value, path, found, limit);
    }
  }
}

function visit(field: DescField, value: unknown, path: string, found: UnknownEnum[], limit: number): void {
  if (found.length >= limit) return;
  if (field.enum) {
    if (field.enum.value[value as number]) return;
    found.push({ field: path, value: value as number, accepted: field.enum.values.map(({ name }) => name) });
  } else if (field.message) {
    walk(field.message, value as Message, `${path}.`, found, limit);
  }
}

/** The field's value as generated code stores it: members of a oneof live under the oneof's name. */
function fieldValue(message: Message, field: DescField): object | number | undefined {
  const record = message as unknown as Record<string, object | number | undefined>;
  if (!field.oneof) return record[field.localName];
  const chosen = record[field.oneof.localName] as { case?: string; value?: object | number } | undefined;
  return chosen?.case === field.localName ? chosen.value : undefined;
}
