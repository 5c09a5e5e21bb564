// What a recipe trains on, for a peer that shall train on the same: recipe_samples RECIPE [key=value ...]
// prints JSON lines.
//   {"steps", "seed", "rank", "alpha", "betas", "epsilon", "weight_decay", "clip_norm", "eos"}   one line
//   {"step", "rate", "samples": [{"tokens", "weights"}]}              for each optimizer step, in retort's
//   own order
//   {"tokens", "weights", "prompt", "expected"}                       for each held-out sample
#include <fmt/format.h>

#include "base/json.h"
#include "data/token_store.h"
#include "models/model.h"
#include "recipe/recipe.h"
#include "train/batches.h"
#include "train/schedule.h"

int main(int count, char** arguments) try {
  using namespace retort;
  if (count < 2) {
    fmt::print(stderr, "usage: recipe_samples RECIPE [key=value ...]\n");
    return 2;
  }
  const auto recipe =
      load_recipe(arguments[1], std::vector<std::string>(arguments + 2, arguments + count)).recipe;
  const auto loaded = load_model(recipe.model);
  const auto& chat =
      choose_chat_template(recipe.data.wanted_template(), loaded.chat_template_source, *loaded.tokenizer);
  const auto dataset = load_dataset(recipe.data, *loaded.tokenizer, chat);
  const auto print = [](const Json& line) { fmt::print("{}\n", line.dump()); };

  const auto& train = recipe.train;
  Batches batches(dataset.train, train.batch, static_cast<uint64_t>(train.seed));
  const int64_t steps = train.steps > 0 ? train.steps : batches.steps(train.epochs);
  print({{"steps", steps},
         {"seed", train.seed},
         {"rank", recipe.adapter.rank},
         {"alpha", recipe.adapter.alpha},
         {"betas", train.optimizer.betas},
         {"epsilon", train.optimizer.epsilon},
         {"weight_decay", train.optimizer.weight_decay},
         {"clip_norm", train.optimizer.clip_norm},
         {"eos", loaded.model->config.eos}});
  Batches::Place place;
  for (int64_t step = 0; step < steps; ++step) {
    Json samples = Json::array();
    for (const auto index : batches.take(place)) {
      const auto& sample = dataset.train[static_cast<size_t>(index)];
      samples.push_back({{"tokens", sample.tokens}, {"weights", sample.weights}});
    }
    print({{"step", step},
           {"rate", train.optimizer.learning_rate * schedule_share(train.schedule, step, steps)},
           {"samples", samples}});
  }
  for (size_t i = 0; i < dataset.held_out.size(); ++i) {
    const auto& record = dataset.held_out_records[i];
    print({{"tokens", dataset.held_out[i].tokens},
           {"weights", dataset.held_out[i].weights},
           {"prompt", prompt_tokens(record, *loaded.tokenizer, chat)},
           {"expected", record.completion()}});
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
