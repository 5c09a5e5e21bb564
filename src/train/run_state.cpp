#include "train/run_state.h"

#include "base/error.h"
#include "base/json_fields.h"

namespace retort {
namespace {

// state.json: one list of fields for both directions.
struct StateFile {
  RunState state;
  template <class Visitor> void fields(Visitor& field) {
    auto& result = state.result;
    field("steps", result.steps);
    field("planned", result.planned);
    field("skipped", result.skipped);
    field("last_loss", result.last_loss);
    field("held_out_before", result.held_out_before);
    field("held_out_after", result.held_out_after);
    field("best_step", result.best_step);
    field("stopped_early", result.stopped_early);
    field("resumed_inexactly", result.resumed_inexactly);
    field("tokens", result.tokens);
    field("rows", result.rows);
    field("supervised", result.supervised);
    field("seconds", result.seconds);
    field("epoch", state.place.epoch);
    field("taken", state.place.taken);
    field("updates", state.updates);
    field("bad_in_a_row", state.bad_in_a_row);
    field("evaluated", state.evaluated);
    field("best_loss", state.best_loss);
    field("evaluations_since_best", state.evaluations_since_best);
    field("forests", state.forests);
    field("nats", state.nats);
    field("weight", state.weight);
    field("metrics_bytes", state.metrics_bytes);
    field("fingerprint", state.fingerprint);
    field.rare("batches", state.batches);  // not in checkpoints of earlier versions
  }
};

}  // namespace

OrderedJson to_json(const RunState& state) { return json_as<OrderedJson>(StateFile{state}); }

RunState run_state(const Json& json, const std::string& file) {
  auto state = read_as<StateFile>(json, {file}).state;
  const auto& result = state.result;
  if (result.steps < 0 || result.planned < 0 || state.place.epoch < 0 || state.place.taken < 0 ||
      state.updates < 0 || state.forests < 0)
    corrupt(file, "", "has a negative counter");
  return state;
}

}  // namespace retort
