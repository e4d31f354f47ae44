/**
 * @file Finds .proto files by name, by symbol and by extension, for server reflection.
 * In: binary FileDescriptorSets. Out: FileDescriptorProtos as bytes, comments and custom options kept.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type FieldDescriptorProto,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { descriptorSet } from "./gen/descriptors.js";

/** One file of a descriptor set. */
interface IndexedFile {
  proto: FileDescriptorProto;
  bytes: Uint8Array;
}

/** Answers what reflection asks. */
export class DescriptorIndex {
  private readonly files = new Map<string, IndexedFile>();
  private readonly symbols = new Map<string, string>();
  private readonly extensions = new Map<string, Map<number, string>>();

  /** Indexes binary FileDescriptorSets given in base64. A file that occurs twice is taken from the first. */
  constructor(...sets: string[]) {
    for (const set of sets) {
      for (const proto of fromBinary(FileDescriptorSetSchema, Buffer.from(set, "base64")).file) {
        if (!this.files.has(proto.name)) this.add(proto);
      }
    }
  }

  /** The named file and all it imports, itself first; undefined if there is no such file. */
  fileWithImports(name: string): Uint8Array[] | undefined {
    if (!this.files.has(name)) return undefined;
    const seen = new Set<string>([name]);
    for (const current of seen) {
      for (const dependency of this.files.get(current)?.proto.dependency ?? []) seen.add(dependency);
    }
    return [...seen].flatMap((file) => this.files.get(file)?.bytes ?? []);
  }

  /** Name of the file that declares a package-qualified message, field, enum, enum value, service or method. */
  fileOfSymbol(symbol: string): string | undefined {
    return this.symbols.get(symbol);
  }

  /** Name of the file that extends `message` with field `number`. */
  fileOfExtension(message: string, number: number): string | undefined {
    return this.extensions.get(message)?.get(number);
  }

  /** Numbers of the extensions of a message, ascending; undefined if the message is not known. */
  extensionNumbers(message: string): number[] | undefined {
    if (!this.symbols.has(message)) return undefined;
    return [...(this.extensions.get(message)?.keys() ?? [])].sort((a, b) => a - b);
  }

  private add(proto: FileDescriptorProto): void {
    this.files.set(proto.name, { proto, bytes: toBinary(FileDescriptorProtoSchema, proto) });
    const scope = proto.package ? `${proto.package}.` : "";
    const note = (name: string) => this.symbols.set(scope + name, proto.name);
    const addMessage = (message: DescriptorProto, outer: string) => {
      const name = `${outer}${message.name}`;
      note(name);
      for (const field of message.field) note(`${name}.${field.name}`);
      for (const oneof of message.oneofDecl) note(`${name}.${oneof.name}`);
      for (const type of message.enumType) addEnum(type, `${name}.`);
      for (const nested of message.nestedType) addMessage(nested, `${name}.`);
      for (const extension of message.extension) this.addExtension(extension, `${name}.`, proto);
    };
    const addEnum = (type: FileDescriptorProto["enumType"][number], outer: string) => {
      note(`${outer}${type.name}`);
      for (const value of type.value) note(`${outer}${value.name}`); // enum values live in the scope of their enum
    };
    for (const message of proto.messageType) addMessage(message, "");
    for (const type of proto.enumType) addEnum(type, "");
    for (const extension of proto.extension) this.addExtension(extension, "", proto);
    for (const service of proto.service) {
      note(service.name);
      for (const method of service.method) note(`${service.name}.${method.name}`);
    }
  }

  private addExtension(field: FieldDescriptorProto, outer: string, file: FileDescriptorProto): void {
    const scope = file.package ? `${file.package}.` : "";
    this.symbols.set(`${scope}${outer}${field.name}`, file.name);
    const extendee = field.extendee.replace(/^\./, "");
    const numbers = this.extensions.get(extendee) ?? new Map<number, string>();
    this.extensions.set(extendee, numbers.set(field.number, file.name));
  }
}

let shared: DescriptorIndex | undefined;

/** Every proto of this package with its imports: rlhf.*, grpc.health, grpc.reflection, google.rpc. Built once. */
export function descriptorIndex(): DescriptorIndex {
  shared ??= new DescriptorIndex(descriptorSet);
  return shared;
}
