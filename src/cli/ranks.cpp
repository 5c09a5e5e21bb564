// `mpirun -n 4 retort-ranks run RECIPE`: a run, or the making of a teacher cache, that several processes
// share. The only program that is linked with MPI.
#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <new>
#include <thread>

#include "base/tell.h"
#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "cli/run_recipe.h"
#include "ranks/mpi_peers.h"
#include "ranks/starter.h"
#include "ranks/supervised.h"
#include "run/follow.h"
#include "run/teach_by_ranks.h"
#include "train/fingerprint.h"
#include "train/peers.h"

namespace retort {

namespace {

// One line of a rank that cannot go on; it ends them all. What all ranks meet, rank 0 tells for them.
[[noreturn]] void give_up(MpiPeers& peers, Exit exit, std::string_view text) {
  if (peers.rank() > 0) std::this_thread::sleep_for(std::chrono::seconds(2));
  const bool lines = text.find('\n') != text.npos;  // a recipe's list of problems
  tell(fmt::format("{}{}", lines ? "" : fmt::format("retort-ranks: {}: ", peers.name(peers.rank())), text));
  peers.end_all(exit);
  std::abort();  // g++ 12 does not know of a virtual function that it never returns
}

// What the ranks of a command do: rank 0 its work, in which it calls the others, and these as they are told.
struct RankWork {
  std::function<void(const LoadedRecipe&)> require_dividable;
  std::function<Exit(LoadedRecipe, Peers&, bool profile)> lead;
  std::function<void(LoadedRecipe, Peers&)> follow;
  bool profiles = false;
};

struct RankOptions {
  std::shared_ptr<RecipeOptions> recipe;
  double patience = 60;
  bool profile = false;
};

Exit run_as_rank(const RankOptions& options, const RankWork& work) {
  const auto starter = other_starter();
  const auto peers = join_ranks(std::chrono::duration<double>(options.patience));
  try {
    require_known_to_mpi(starter, peers->count());
    auto loaded = options.recipe->load();
    require_equal(*peers, {{"recipe", loaded.sha256}, {"program", build_id()}});
    work.require_dividable(loaded);
    auto exit = Exit::done;
    if (peers->rank() == 0) {
      try {
        exit = work.lead(std::move(loaded), *peers, options.profile);
      } catch (const Stopped& stopped) {  // the others have stopped with it, and wait for the next word
        tell(fmt::format("retort-ranks: {}: {}", peers->name(0), stopped.what()));
        exit = stopped.code;
      }
      end_run(*peers);
    } else {
      work.follow(std::move(loaded), *peers);
    }
    peers->leave();
    return exit;
  } catch (const Error& error) { give_up(*peers, error.code, error.what()); } catch (const std::bad_alloc&) {
    give_up(*peers, Exit::machine_failed,
            "out of memory; start fewer ranks a machine, lower train.batch.pass_tokens or set "
            "train.recompute: true");
  } catch (const std::exception& error) {
    // LibTorch's messages carry a stack trace after the first line.
    const std::string_view text = error.what();
    give_up(*peers, Exit::machine_failed,
            fmt::format("internal error: {}; please report it", printable(text.substr(0, text.find('\n')))));
  }
}

const RankWork kRun = {
    require_dividable,
    [](LoadedRecipe loaded, Peers& peers, bool profile) {
      return run_recipe(std::move(loaded), profile, &peers);
    },
    follow_run,
    true,
};
const RankWork kTeach = {
    require_dividable_teacher,
    [](LoadedRecipe loaded, Peers& peers, bool) { return lead_teaching(std::move(loaded), peers); },
    follow_teaching,
};

void add_command(CLI::App& app, Action& action, const char* name, const char* description,
                 const RankWork* work) {
  auto* command = app.add_subcommand(name, description);
  auto options = std::make_shared<RankOptions>();
  options->recipe = add_recipe_options(*command);
  command->add_option("--patience", options->patience,
                      "seconds of silence after which a rank counts as lost and all ranks end (60)");
  if (work->profiles)
    command->add_flag("--profile", options->profile,
                      "as `retort run --profile`, of rank 0; \"sums along ranks\" is what it sends and waits "
                      "for");
  command->callback([options, work, &action] {
    const auto patience = options->patience;
    if (!(patience >= 5 && patience <= 86400))
      throw RecipeError(fmt::format("--patience: expected 5 to 86400 seconds, found {}", patience));
    action = [=] { return supervised([=] { return run_as_rank(*options, *work); }); };
  });
}

}  // namespace

std::unique_ptr<CLI::App> make_program(Action& action) {
  auto app =
      bare_program("retort-ranks",
                   "Runs a recipe with several processes, which mpirun starts on one or more machines: "
                   "they share the work, and the bytes that are written are those of one process.");
  app->require_subcommand(1);
  add_command(*app, action, "run",
              "Train by all ranks, which also score held-out texts and ask the teacher together; the rest is "
              "rank 0's work while the others wait",
              &kRun);
  add_command(*app, action, "teach", "Build or complete a recipe's teacher cache by all ranks", &kTeach);
  return app;
}

}  // namespace retort
