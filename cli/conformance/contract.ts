/**
 * @file Compares a service as a server describes it with the one of this package. A server may know less or more; what both know must
 * be the same on the wire and in JSON: name, number, type and presence of each field, name and number of each enum value, name and
 * types of each method.
 */
import type { DescEnum, DescField, DescMessage, DescService } from "@bufbuild/protobuf";

/** Differences, each as a line that names the place; none if clients of `ours` can call `theirs`. */
export function contractDifferences(ours: DescService, theirs: DescService): string[] {
  const lines: string[] = [];
  const seen = new Set<string>();
  for (const method of ours.methods) {
    const other = theirs.methods.find(({ name }) => name === method.name);
    const where = `${ours.typeName}/${method.name}`;
    if (!other) {
      lines.push(`${where}: is missing`);
      continue;
    }
    if (other.methodKind !== method.methodKind) {
      lines.push(`${where}: is ${other.methodKind}, not ${method.methodKind}`);
    }
    compareMessages(method.input, other.input, lines, seen);
    compareMessages(method.output, other.output, lines, seen);
  }
  return lines;
}

function compareMessages(ours: DescMessage, theirs: DescMessage, lines: string[], seen: Set<string>): void {
  if (ours.typeName !== theirs.typeName) {
    lines.push(`${theirs.typeName}: stands where ${ours.typeName} belongs`);
    return;
  }
  if (seen.has(ours.typeName)) return;
  seen.add(ours.typeName);
  for (const field of ours.fields) {
    const byNumber = theirs.fields.find(({ number }) => number === field.number);
    const byName = theirs.fields.find(({ name }) => name === field.name);
    const where = `${ours.typeName}.${field.name}`;
    if (byName && byName.number !== field.number) {
      lines.push(`${where}: has number ${byName.number}, not ${field.number}`);
    } else if (byNumber && byNumber.name !== field.name) {
      lines.push(`${where}: number ${field.number} is called ${byNumber.name}`);
    } else if (byNumber) {
      const [is, expected] = [typeOf(byNumber), typeOf(field)];
      if (is !== expected) lines.push(`${where}: is ${is}, not ${expected}`);
      const [inner, otherInner] = [field.message, byNumber.message];
      if (inner && otherInner) compareMessages(inner, otherInner, lines, seen);
      if (field.enum && byNumber.enum) compareEnums(field.enum, byNumber.enum, lines, seen);
    }
  }
}

function compareEnums(ours: DescEnum, theirs: DescEnum, lines: string[], seen: Set<string>): void {
  if (ours.typeName !== theirs.typeName || seen.has(ours.typeName)) return; // another type was told already
  seen.add(ours.typeName);
  for (const { name, number } of ours.values) {
    const byName = theirs.values.find((value) => value.name === name);
    const byNumber = theirs.values.find((value) => value.number === number);
    const where = `${ours.typeName}.${name}`;
    if (byName && byName.number !== number)
      lines.push(`${where}: has number ${byName.number}, not ${number}`);
    else if (byNumber && byNumber.name !== name)
      lines.push(`${where}: number ${number} is called ${byNumber.name}`);
  }
}

/** Kind and type of a field as the .proto file writes it. */
function typeOf(field: DescField): string {
  const { proto } = field;
  const type = field.message?.typeName ?? field.enum?.typeName ?? `scalar type ${proto.type}`;
  const label = field.fieldKind === "map" ? "map of " : field.fieldKind === "list" ? "repeated " : "";
  const presence = proto.proto3Optional ? "optional " : "";
  const oneof = field.oneof ? `in oneof ${field.oneof.name} ` : "";
  return `${oneof}${presence}${label}${type}`;
}
