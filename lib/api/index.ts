/** @file Generated messages and services, and the bridge that makes them grpc-js services. */
export { asBuffer, decodeMessage, encodeMessage, methodPath, toGrpcMethod, toGrpcService } from "./bridge.js";
export { DescriptorIndex, descriptorIndex } from "./descriptor-index.js";
export { findUnknownEnums, type UnknownEnum } from "./enums.js";
