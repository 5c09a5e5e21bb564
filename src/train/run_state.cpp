#include "train/run_state.h"

#include "base/error.h"

namespace retort {
namespace {

// One list of fields for both directions.
template <class Field> void fields(RunState& state, Field&& field) {
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
}

struct Put {
  OrderedJson& json;
  template <class Value> void operator()(const char* name, const Value& value) const { json[name] = value; }
  template <class Value> void operator()(const char* name, const std::optional<Value>& value) const {
    if (value) json[name] = *value;
    else json[name] = nullptr;
  }
};

struct Take {
  const Json& json;
  template <class Value> void operator()(const char* name, Value& value) const {
    value = json.at(name).get<Value>();
  }
  template <class Value> void operator()(const char* name, std::optional<Value>& value) const {
    const auto& found = json.at(name);
    value = found.is_null() ? std::nullopt : std::optional(found.get<Value>());
  }
};

}  // namespace

OrderedJson to_json(const RunState& state) {
  OrderedJson json;
  auto copy = state;
  fields(copy, Put{json});
  return json;
}

RunState run_state(const Json& json, const std::string& file) {
  RunState state;
  try {
    fields(state, Take{json});
  } catch (const Json::exception& error) { corrupt(file, "", printable(error.what())); }
  const auto& result = state.result;
  if (result.steps < 0 || result.planned < 0 || state.place.epoch < 0 || state.place.taken < 0 ||
      state.updates < 0 || state.forests < 0)
    corrupt(file, "", "has a negative counter");
  return state;
}

}  // namespace retort
