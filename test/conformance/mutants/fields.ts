/** @file Mistakes about the fields of a request that fit every service. */
import { status } from "@grpc/grpc-js";
import type { BaseToy } from "../toy/base.js";
import { Refusal } from "../toy/refusal.js";

/** Violations of these fields are not noticed. */
export function unchecked(field: RegExp): (toy: BaseToy) => void {
  return (toy) => {
    toy.counts = (violation) => !field.test(violation.field);
  };
}

/** Violations of these fields are told of another one. */
export function renamed(field: RegExp, name: string): (toy: BaseToy) => void {
  return (toy) => {
    const { refuse } = toy.habits;
    toy.habits.refuse = ({ code, message, reason, violations, retryMs }) => {
      const told = violations.map((v) => (field.test(v.field) ? { ...v, field: name } : v));
      return refuse(new Refusal(code, message, reason, told, retryMs));
    };
  };
}

/** Refusals with one status have another. */
export function otherStatus(is: status, becomes: status): (toy: BaseToy) => void {
  return (toy) => {
    const { refuse } = toy.habits;
    toy.habits.refuse = (refusal) => {
      const told = refuse(refusal);
      return refusal.code === is ? { ...told, code: becomes } : told;
    };
  };
}

/** What a wrong field is for whoever does not look: an exception somewhere inside. */
export const asUnknown = otherStatus(status.INVALID_ARGUMENT, status.UNKNOWN);
