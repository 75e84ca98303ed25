// What the heroes draw with, as one module: { d3, temml }.
import { easeCubicInOut, easeCubicOut, easeLinear } from "d3-ease";
import { interpolateString } from "d3-interpolate";
import { scaleLinear } from "d3-scale";
import { select, selectAll } from "d3-selection";
import "d3-transition"; // teaches selections .transition() and .interrupt()
import temml from "temml";

export const d3 = {
  ...{ easeCubicInOut, easeCubicOut, easeLinear, interpolateString, scaleLinear },
  ...{ select, selectAll },
};
export { temml };
