/**
 * @file The only way to an instrument: by its name in the catalogue, which also fixes unit, description and bounds.
 * Handles may be made at module level, before telemetry starts; they record nothing until it does.
 */
import { type Attributes, type Gauge, type Meter, metrics, type ObservableGauge } from "@opentelemetry/api";
import { type InstrumentKind, METRICS, type MetricEntry, type MetricNameOf } from "./catalogue.js";
import { SCOPE } from "./tracing.js";

/** An instrument was asked for that the catalogue does not have, or has as another kind. A bug, never an input error. */
export class UnknownInstrumentError extends Error {
  readonly code = "UNKNOWN_INSTRUMENT";

  constructor(name: string, kind: string) {
    const listed = (METRICS as Record<string, MetricEntry>)[name];
    super(
      listed
        ? `metric ${name}: is a ${listed.kind} in the catalogue, asked for as a ${kind}`
        : `metric ${name}: not in lib/telemetry/catalogue.ts`,
    );
    this.name = "UnknownInstrumentError";
  }
}

/** Adds to a sum. */
export interface CounterHandle {
  add(value: number, attributes?: Attributes): void;
}

/** Records one measurement: into buckets (histogram) or as the latest value (gauge). */
export interface RecorderHandle {
  record(value: number, attributes?: Attributes): void;
}

/** A counter that only rises. Throws UnknownInstrumentError. */
export function counter(name: MetricNameOf<"counter">): CounterHandle {
  return lazily("counter", name, (meter, options) => meter.createCounter(name, options));
}

/** A counter that rises and falls. Throws UnknownInstrumentError. */
export function upDownCounter(name: MetricNameOf<"upDownCounter">): CounterHandle {
  return lazily("upDownCounter", name, (meter, options) => meter.createUpDownCounter(name, options));
}

/** A distribution with the bounds of the catalogue. Throws UnknownInstrumentError. */
export function histogram(name: MetricNameOf<"histogram">): RecorderHandle {
  return lazily("histogram", name, (meter, options) => meter.createHistogram(name, options));
}

/** A latest value that is set when it changes. Throws UnknownInstrumentError. */
export function gauge(name: MetricNameOf<"gauge">): RecorderHandle {
  return lazily<Gauge>("gauge", name, (meter, options) => meter.createGauge(name, options));
}

/** A latest value that is asked for at each collection; call the result to stop. Throws UnknownInstrumentError. */
export function observe(
  name: MetricNameOf<"gauge">,
  read: (record: (value: number, attributes?: Attributes) => void) => void,
): () => void {
  const entry = entryOf("gauge", name);
  const observable: ObservableGauge = metrics.getMeter(SCOPE).createObservableGauge(name, optionsOf(entry));
  const callback = (result: { observe(value: number, attributes?: Attributes): void }) =>
    read((value, attributes) => result.observe(value, attributes));
  observable.addCallback(callback);
  return () => observable.removeCallback(callback);
}

/** A meter that refuses names outside of the catalogue and other kinds than the catalogue's. For code that wants the OpenTelemetry API. */
export function cataloguedMeter(meter: Meter): Meter {
  const checked = (kind: InstrumentKind, method: keyof Meter) => (name: string) => {
    const entry = entryOf(kind, name);
    return (meter[method] as (name: string, options: object) => unknown).call(meter, name, optionsOf(entry));
  };
  return {
    createCounter: checked("counter", "createCounter"),
    createUpDownCounter: checked("upDownCounter", "createUpDownCounter"),
    createHistogram: checked("histogram", "createHistogram"),
    createGauge: checked("gauge", "createGauge"),
    createObservableCounter: checked("counter", "createObservableCounter"),
    createObservableUpDownCounter: checked("upDownCounter", "createObservableUpDownCounter"),
    createObservableGauge: checked("gauge", "createObservableGauge"),
    addBatchObservableCallback: meter.addBatchObservableCallback.bind(meter),
    removeBatchObservableCallback: meter.removeBatchObservableCallback.bind(meter),
  } as Meter;
}

function entryOf(kind: InstrumentKind, name: string): MetricEntry {
  const entry = (METRICS as Record<string, MetricEntry>)[name];
  if (entry?.kind !== kind) throw new UnknownInstrumentError(name, kind);
  return entry;
}

function optionsOf(entry: MetricEntry) {
  return {
    unit: entry.unit,
    description: entry.description,
    ...(entry.bounds && { advice: { explicitBucketBoundaries: [...entry.bounds] } }),
  };
}

/** The real instrument, looked up when it is first used and again after telemetry was restarted. */
function lazily<I extends object>(
  kind: InstrumentKind,
  name: string,
  create: (meter: Meter, options: ReturnType<typeof optionsOf>) => I,
): I {
  const options = optionsOf(entryOf(kind, name));
  let madeBy: unknown;
  let instrument: I | undefined;
  const resolve = (): I => {
    const provider = metrics.getMeterProvider();
    if (!instrument || provider !== madeBy) {
      instrument = create(metrics.getMeter(SCOPE), options);
      madeBy = provider;
    }
    return instrument;
  };
  return {
    add: (value: number, attributes?: Attributes) =>
      (resolve() as unknown as CounterHandle).add(value, attributes),
    record: (value: number, attributes?: Attributes) =>
      (resolve() as unknown as RecorderHandle).record(value, attributes),
  } as unknown as I;
}
