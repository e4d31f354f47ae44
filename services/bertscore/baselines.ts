/**
 * @file Baseline rescaling: maps raw scores onto a more readable range with the mean score b of random sentence pairs,
 * (x - b) / (1 - b), separately for P, R and F. Tables are those published with Tiiiger/bert_score 0.3.13.
 */
import { BaselineError } from "./errors.js";
import type { BertScore } from "./matching.js";

/** [P, R, F] baseline of each layer, embedding output first; the row position is the layer. */
export type BaselineTable = readonly (readonly [number, number, number])[];

/** The published table for a language and model, or undefined where we carry none (pass a file instead). */
export function publishedBaseline(language: string, model: string): BaselineTable | undefined {
  const key = `${language}/${model}`;
  return Object.hasOwn(PUBLISHED, key) ? PUBLISHED[key] : undefined;
}

/**
 * Reads a baseline file of bert_score: comma-separated, header `LAYER,P,R,F`, one row a layer from 0 up.
 * The LAYER column is ignored, as upstream does. Throws BaselineError naming the line.
 */
export function parseBaseline(text: string, source: string): BaselineTable {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (lines.length < 2) throw new BaselineError(`${source}: expected a header and one row a layer`);
  return lines.slice(1).map((line, index) => {
    const cells = line.split(",").map((cell) => (cell.trim() === "" ? Number.NaN : Number(cell)));
    const [, p, r, f] = cells;
    if (cells.length !== 4 || ![p, r, f].every((value) => Number.isFinite(value) && value < 1)) {
      throw new BaselineError(
        `${source} row ${index}: expected LAYER,P,R,F with numbers below 1, got "${line}"`,
      );
    }
    return [p, r, f] as const;
  });
}

/** (x - b) / (1 - b) for each of P, R and F; F uses its own baseline and is not recomputed from P and R. */
export function rescale(score: BertScore, [p, r, f]: readonly [number, number, number]): BertScore {
  return {
    precision: (score.precision - p) / (1 - p),
    recall: (score.recall - r) / (1 - r),
    f1: (score.f1 - f) / (1 - f),
  };
}

const PUBLISHED: Readonly<Record<string, BaselineTable>> = {
  "en/roberta-large": [
    [0.3712891, 0.37132213, 0.36826715],
    [0.67176163, 0.6717439, 0.6703483],
    [0.70031923, 0.7003052, 0.69969934],
    [0.7080897, 0.7081011, 0.707698],
    [0.6976306, 0.69762677, 0.69710517],
    [0.7187199, 0.71873325, 0.71828526],
    [0.74678195, 0.74678224, 0.74642223],
    [0.7772428, 0.7772184, 0.77691925],
    [0.8021733, 0.8021747, 0.8019093],
    [0.8067641, 0.80678225, 0.8065291],
    [0.8366976, 0.8367098, 0.8364913],
    [0.8163513, 0.816369, 0.8161064],
    [0.8175406, 0.8175611, 0.81728977],
    [0.82106245, 0.8210674, 0.82080233],
    [0.81487834, 0.8148861, 0.8145652],
    [0.8243552, 0.8243522, 0.8240494],
    [0.8341641, 0.8341684, 0.833912],
    [0.83150584, 0.8314941, 0.83122575],
    [0.8314624, 0.83146274, 0.8311686],
    [0.82761073, 0.8276117, 0.8273196],
    [0.799873, 0.79988, 0.79956234],
    [0.8082163, 0.80819315, 0.8079286],
    [0.83196104, 0.83195347, 0.83174026],
    [0.8408042, 0.8408027, 0.8405716],
    [0.96022236, 0.96021587, 0.960168],
  ],
  "en/roberta-base": [
    [0.4043224, 0.40432808, 0.40218553],
    [0.6423126, 0.6422804, 0.6414617],
    [0.768273, 0.7682535, 0.76791227],
    [0.7803166, 0.78030443, 0.7800415],
    [0.7839782, 0.78397924, 0.7836174],
    [0.7959116, 0.7959033, 0.79557085],
    [0.80936664, 0.80936354, 0.80908644],
    [0.81720984, 0.81721514, 0.816965],
    [0.80465585, 0.80464727, 0.8043641],
    [0.7911581, 0.79115206, 0.7908595],
    [0.8146725, 0.8146619, 0.814463],
    [0.8243949, 0.8244051, 0.82420003],
    [0.8557132, 0.85571885, 0.8555707],
  ],
  "en/distilroberta-base": [
    [0.42608285, 0.4272089, 0.42462298],
    [0.7367886, 0.7370362, 0.736573],
    [0.79922664, 0.799593, 0.7991632],
    [0.8329021, 0.8333321, 0.83291864],
    [0.8442, 0.84462386, 0.84425896],
    [0.84732, 0.84759504, 0.8473319],
    [0.89334005, 0.8935088, 0.8933471],
  ],
  "en/bert-base-uncased": [
    [0.3231512, 0.32322776, 0.31853873],
    [0.32517454, 0.32522815, 0.32197207],
    [0.3708038, 0.37080705, 0.36834884],
    [0.36287847, 0.36286885, 0.36059204],
    [0.3786389, 0.37860426, 0.3767926],
    [0.4018232, 0.401791, 0.40032896],
    [0.38439456, 0.38434005, 0.38282546],
    [0.37114623, 0.3710986, 0.36949417],
    [0.37231025, 0.37226102, 0.37049443],
    [0.35375935, 0.3537393, 0.35219112],
    [0.38161838, 0.3816211, 0.37991408],
    [0.4421448, 0.4421776, 0.44040316],
    [0.40192786, 0.40191513, 0.40038353],
  ],
  "en/distilbert-base-uncased": [
    [0.2884445, 0.2884457, 0.28333962],
    [0.39316687, 0.3931663, 0.39123002],
    [0.42905498, 0.4290923, 0.42735597],
    [0.5222444, 0.52227175, 0.52129734],
    [0.6019937, 0.6019904, 0.6014007],
    [0.6666034, 0.66660464, 0.66620487],
    [0.51401854, 0.51404256, 0.5131456],
  ],
};
