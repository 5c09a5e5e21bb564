#include "run/prove.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/scratch_folder.h"
#include "base/start_program.h"
#include "base/stop.h"
#include "data/canaries.h"
#include "data/record_source.h"
#include "report/manifest.h"
#include "run/call_trace.h"
#include "run/open_teacher.h"
#include "run/text_search.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

using Fact = Proof::Fact;

void require_strace() {
  if (find_program("strace").empty())
    throw Failure("strace is not installed, and it is what sees what a run does; apt-get install strace");
}

// Ends well: exit code 0.
bool works(const std::vector<std::string>& command) {
  const auto file = find_program(command.front());
  if (file.empty()) return false;
  const auto process = start_program(file, {.arguments = command, .files = {-1, -1, -1}});
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// What puts a program into an empty network namespace; empty where that is not allowed.
std::vector<std::string> without_network() {
  for (const char* how : {"-n", "-rn"})
    if (works({"unshare", how, "true"})) return {"unshare", how};
  return {};
}

struct Watched {
  int exit = -1;
  std::string told;  // both outputs
  std::string trace;
  bool empty_namespace = false;
};

// Passes on what comes out of `from`; false when it is closed.
bool pass_on(int from, int to, std::string& told) {
  std::array<char, 1 << 16> some;
  const auto got = ::read(from, some.data(), some.size());
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0) return false;
  told.append(some.data(), static_cast<size_t>(got));
  for (ssize_t done = 0; done < got;) {
    const auto wrote = ::write(to, some.data() + done, static_cast<size_t>(got - done));
    if (wrote < 0 && errno != EINTR) break;  // what nobody reads is lost, and ends nothing
    done += std::max<ssize_t>(wrote, 0);
  }
  return true;
}

// A stop is passed on, and what the program says and does until its end is still heard.
int hear_to_the_end(pid_t process, Pipe& out, Pipe& error, std::string& told) {
  constexpr int kPatience = 200;  // milliseconds
  bool stopping = false;
  std::array<pollfd, 2> files = {{{out.end(0), POLLIN, 0}, {error.end(0), POLLIN, 0}}};
  while (files[0].fd >= 0 || files[1].fd >= 0) {
    if (stop_requested() && !stopping) {
      ::kill(-process, SIGTERM);
      stopping = true;
    }
    if (::poll(files.data(), files.size(), kPatience) <= 0) continue;
    for (size_t i = 0; i < files.size(); ++i)
      if (files[i].fd >= 0 && files[i].revents != 0 &&
          !pass_on(files[i].fd, i == 0 ? STDOUT_FILENO : STDERR_FILENO, told))
        files[i].fd = -1;
  }
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {}
  if (stopping) leave_if_stopped("watching a run");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Watched watch(const std::vector<std::string>& arguments) {
  require_strace();
  Watched watched;
  auto command = without_network();
  watched.empty_namespace = !command.empty();
  command.emplace_back("strace");
  command.insert(command.end(), strace_options().begin(), strace_options().end());
  auto probe = command;
  probe.insert(probe.end(), {"-o", "/dev/null", "true"});
  if (!works(probe))
    throw Failure(
        "strace may not watch a program here (a container without ptrace, or an strace older than 5.3); run "
        "it where `strace --seccomp-bpf -f true` works");
  const ScratchFolder scratch("retort-trace");
  const auto trace = (scratch.path() / "trace").string();
  command.insert(command.end(), {"-o", trace, fs::read_symlink("/proc/self/exe").string()});
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::fflush(stdout);
  Pipe out, error;
  const auto process = start_program(find_program(command.front()),
                                     {.arguments = command, .files = {-1, out.end(1), error.end(1)}});
  out.close(1), error.close(1);
  watched.exit = hear_to_the_end(process, out, error, watched.told);
  watched.trace = read_text(trace, size_t{4} << 30);
  return watched;
}

std::string shown(const std::string& path) {
  const auto relative = fs::path(path).lexically_relative(fs::weakly_canonical(fs::current_path()));
  return relative.empty() || relative.native().starts_with("..") ? path : relative.string();
}

std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i)
    text += (i ? ", " : "") + printable(shown(names[i]));
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

std::string count(size_t number, const char* what) {
  return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

// Of very many records not every piece is looked for.
std::string share_of_pieces(double share) {
  if (share == 1) return "";
  return fmt::format(" (a sample by hash: {:.3g} % of their pieces, and all of canaries)", 100 * share);
}

class Looking {
 public:
  Looking(const ProofJob& job, const Watched& watched)
      : recipe_(job.recipe.recipe),
        resolved_(job.recipe.resolved),
        watched_(watched),
        trace_(parse_trace(watched.trace)),
        folder_(fs::weakly_canonical(fs::absolute(recipe_.run.folder))) {}

  Proof all() {
    ended();
    network();
    programs();
    files_read();
    files_written();
    whole_record();
    permissions();
    texts();
    return std::move(proof_);
  }

 private:
  void fact(bool holds, std::string what, std::string detail = "") {
    proof_.facts.push_back({holds, std::move(what), std::move(detail)});
  }

  void ended() {
    const auto how = watched_.empty_namespace
                         ? "in an empty network namespace"
                         : "not in an empty network namespace, which this user may not make here";
    const bool gates = watched_.exit == static_cast<int>(Exit::gate_failed);
    fact(watched_.exit == 0 || gates, "the run came to its end",
         gates                ? fmt::format("{}; a gate of the recipe failed", how)
         : watched_.exit == 0 ? how
                              : fmt::format("exit code {}", watched_.exit));
  }

  void network() {
    const std::vector<std::string> families(trace_.sockets.begin(), trace_.sockets.end());
    fact(families.empty(), "no socket but those within the machine (AF_UNIX)", some_of(families));
  }

  void programs() {
    std::set<std::string> allowed = {"retort-tables"}, others, strangers;
    for (const auto& task : recipe_.eval.tasks) {
      if (task.execute) allowed.insert("python3");
      if (task.scored_by && !task.scored_by->command.empty())
        allowed.insert(fs::path(task.scored_by->command.front()).filename().string());
    }
    for (size_t i = 1; i < trace_.programs.size(); ++i) {
      const auto name = fs::path(trace_.programs[i]).filename().string();
      (allowed.contains(name) ? others : strangers).insert(trace_.programs[i]);
    }
    const auto& named = strangers.empty() ? others : strangers;
    fact(strangers.empty(), "no other program was started but those that the recipe asks for",
         named.empty() ? "none" : some_of({named.begin(), named.end()}));
  }

  void files_read() {
    if (!fs::exists(folder_ / "manifest.json")) return fact(false, "the run left a manifest");
    std::set<std::string> recorded;
    for (const auto& file : read_manifest(folder_).read) {
      recorded.insert(fs::weakly_canonical(file.path).string());
      proof_.read.push_back(shown(file.path));
    }
    std::vector<std::string> unrecorded, unopened;
    const auto program = fs::read_symlink("/proc/self/exe").string();
    for (const auto& path : trace_.read) {
      if (recorded.contains(path) || path == program || is_of_the_system(path) ||
          is_inside(path, folder_.string()))
        continue;
      if (fs::is_regular_file(path)) unrecorded.push_back(path);
    }
    for (const auto& path : recorded) {
      // What a run of its own made first (a cache) was opened for writing.
      const bool opened =
          trace_.read.contains(path) || trace_.written.contains(path) || trace_.read_by_others.contains(path);
      if (!opened) unopened.push_back(path);
    }
    fact(unrecorded.empty() && unopened.empty(),
         "the files that were opened are those that the manifest names",
         !unrecorded.empty() ? "opened and not named: " + some_of(unrecorded)
         : !unopened.empty() ? "named and not opened: " + some_of(unopened)
                             : count(recorded.size(), "file"));
  }

  // What a recipe names for writing besides the run's folder.
  std::vector<std::string> caches() const {
    std::vector<std::string> places = {recipe_.data.cache, recipe_.model.scratch};
    if (recipe_.teacher) {
      places.push_back(recipe_.teacher->scratch);
      places.push_back(teacher_cache_folder(recipe_).string());
      if (recipe_.teacher->answers) places.push_back(recipe_.teacher->answers->file);
    }
    std::erase(places, "");
    for (auto& place : places) {
      const auto whole = fs::weakly_canonical(fs::absolute(place));
      place = (whole.has_filename() ? whole : whole.parent_path()).string();  // "caches/a/"
    }
    return places;
  }

  void files_written() {
    const auto allowed = caches();
    std::set<std::string> stray, tops;
    for (const auto* files : {&trace_.written, &trace_.written_by_others})
      for (const auto& path : *files) {
        if (path.starts_with("/dev/") || path.starts_with("/proc/")) continue;
        const bool cached = std::any_of(allowed.begin(), allowed.end(),
                                        [&](const auto& place) { return is_of_cache(path, place); });
        if (is_inside(path, folder_.string()))
          tops.insert((folder_ / *fs::path(path).lexically_relative(folder_).begin()).string());
        else (cached ? tops : stray).insert(path);
      }
    for (const auto& path : tops)
      if (fs::exists(path)) proof_.written.push_back(shown(path));  // unfinished files are gone
    fact(stray.empty(), "everything was written into the run's folder or a cache",
         some_of({stray.begin(), stray.end()}));
  }

  void whole_record() {
    if (!fs::exists(folder_ / "manifest.json")) return;
    const auto manifest = read_manifest(folder_);
    const auto differences = verify_manifest(folder_);
    fact(differences.empty(), "manifest and ledger name every file, and each other",
         differences.empty()
             ? fmt::format("{}, {} entries in the ledger", count(manifest.written.size(), "file"),
                           manifest.ledger ? manifest.ledger->entries : 0)
             : fmt::format("{}: {}", printable(differences[0].path), differences[0].what));
  }

  void permissions() {
    std::vector<std::string> open;
    if (fs::exists(folder_))
      for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
        struct stat status {};
        if (::lstat(entry.path().c_str(), &status) == 0 && !S_ISLNK(status.st_mode) &&
            (status.st_mode & 077) != 0)
          open.push_back(entry.path().string());
      }
    fact(open.empty(), "nobody but the user can read the run", some_of(open));
  }

  void texts() {
    TextSearch search;
    int64_t records = 0;
    const SourceFiles sources(recipe_.data.sources, 1);
    using Pieces = TextSearch::Pieces;
    using Take = std::function<void(const std::string& text, bool own, Pieces pieces)>;
    const auto each_text = [&](const Take& take) {
      records = 0;
      sources.pass(nullptr, [&](int64_t, Record record) -> RecordSource::Later {
        return [&records, &take, kept = std::move(record)] {
          ++records;
          take(kept.completion(), false, Pieces::sampled);
          for (const auto& message : kept.prompt()) take(message.content, true, Pieces::sampled);
        };
      });
      for (const auto& canary : make_canaries(recipe_.data.canaries).planted)
        ++records, take(canary.completion(), false, Pieces::all);
    };
    each_text([&](const std::string& text, bool own, Pieces pieces) { search.add(text, own, pieces); });
    each_text([&](const std::string& text, bool, Pieces) { search.count(text); });
    search.close(resolved_);
    std::vector<std::string> holders;
    size_t files = 0;
    if (search.finds_any(watched_.told)) holders.emplace_back("what it printed");
    if (fs::exists(folder_))
      for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
        if (!entry.is_regular_file() || entry.is_symlink() || entry.file_size() == 0) continue;
        ++files;
        if (search.finds_any(MappedFile(entry.path()).text())) holders.push_back(entry.path().string());
      }
    std::sort(holders.begin(), holders.end());
    const auto looked =
        search.pieces() == 0
            ? fmt::format("no text is long enough to be looked for ({} plain bytes)", TextSearch::kPiece)
            : fmt::format(
                  "looked for {} pieces of the texts of {} records{} in {} files and the terminal's lines",
                  search.pieces(), records, share_of_pieces(search.share()), files);
    const auto found = holders.empty() ? looked : "in " + some_of(holders);
    if (recipe_.is_private && recipe_.shown_samples() == 0)
      return fact(holders.empty() && search.pieces() > 0, "private: no text of a record is left", found);
    fact(
        true,
        recipe_.is_private ? "report.samples asks for texts" : "the recipe is not private: texts may be left",
        found);
  }

  const Recipe& recipe_;
  const std::string& resolved_;
  const Watched& watched_;
  const CallTrace trace_;
  const fs::path folder_;
  Proof proof_;
};

}  // namespace

bool Proof::holds() const {
  return std::all_of(facts.begin(), facts.end(), [](const Fact& fact) { return fact.holds; });
}

Proof prove(const ProofJob& job) {
  const auto watched = watch(job.arguments);
  // What ended before it did anything is no run to look at.
  if (watched.exit == static_cast<int>(Exit::bad_input))
    throw RecipeError("the run that was watched was refused; the line above says why");
  return Looking(job, watched).all();
}

}  // namespace retort
