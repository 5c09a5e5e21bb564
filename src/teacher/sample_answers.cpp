#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/stop.h"
#include "teacher/teach_served.h"

namespace retort {
namespace {

[[noreturn]] void fail(const std::string& path) {
  throw Failure(fmt::format("{}: {}", printable(path), std::strerror(errno)));
}

// A file that grows by whole lines and has one writer at a time.
class GrowingLines {
 public:
  explicit GrowingLines(const std::string& path) : path_(path) {
    if (const auto folder = std::filesystem::path(path).parent_path(); !folder.empty()) make_folder(folder);
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor_ < 0) fail(path);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      ::close(descriptor_);
      throw Failure(fmt::format("{}: another process is writing it", printable(path)));
    }
  }
  ~GrowingLines() { ::close(descriptor_); }
  GrowingLines(const GrowingLines&) = delete;
  GrowingLines& operator=(const GrowingLines&) = delete;

  // Only the first `size` bytes stay.
  void cut(size_t size) {
    if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0 || ::lseek(descriptor_, 0, SEEK_END) < 0)
      fail(path_);
  }
  void append(std::string_view text) {
    while (!text.empty()) {
      const auto count = ::write(descriptor_, text.data(), text.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail(path_);
      text.remove_prefix(static_cast<size_t>(count));
    }
    if (::fsync(descriptor_) != 0) fail(path_);
  }

 private:
  std::string path_;
  int descriptor_;
};

std::string settings_of(const AnswersSpec& spec) {
  return sha256(fmt::format("{} {} {} {} {}", spec.max_tokens, spec.temperature, spec.top_p, spec.seed,
                            spec.per_prompt))
      .substr(0, 16);
}

// What a line says before there is an answer; the rest must be the same in a file that is continued.
OrderedJson planned_line(const Record& record, int64_t number, const std::string& model,
                         const std::string& settings) {
  OrderedJson prompt = OrderedJson::array();
  for (const auto& message : record.prompt())
    prompt.push_back({{"role", message.role}, {"content", message.content}});
  return {
      {"prompt", prompt},       {"completion", ""}, {"finish_reason", ""}, {"reference", record.completion()},
      {"source", record.place}, {"number", number}, {"teacher", model},    {"settings", settings}};
}

std::string text_of(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

AnswersProgress sample_answers(const AnswersJob& job,
                               const std::function<void(const AnswersProgress&)>& progress) {
  const auto& records = job.records;
  const auto& spec = job.spec;
  const auto settings = settings_of(spec);
  const Draws seeds(static_cast<uint64_t>(spec.seed), "answers");
  const auto count = static_cast<int64_t>(records.size()) * spec.per_prompt;
  auto named = job.model;  // or as the file names it, or the server
  const auto line_of = [&](int64_t index) {
    return planned_line(records[static_cast<size_t>(index / spec.per_prompt)], index % spec.per_prompt, named,
                        settings);
  };
  for (const auto& record : records)
    if (record.messages.empty())
      throw RecipeError(
          fmt::format("{}: a plain text has no prompt that a teacher could answer; give conversations, or a "
                      "source's prompt and completion",
                      record.place));

  AnswersProgress state;
  state.answers = count;
  GrowingLines file(spec.file);
  const auto written = read_text(spec.file);
  size_t end = 0;
  for (size_t stop; (stop = written.find('\n', end)) != std::string::npos; end = stop + 1) {
    const auto place = fmt::format("{}:{}", spec.file, state.done + 1);
    const auto line = parse_json(std::string_view(written).substr(end, stop - end), place);
    if (!line.is_object()) corrupt(place, "", "expected a JSON object");
    if (state.done >= count)
      throw RecipeError(fmt::format(
          "{}: the recipe asks for {} answers, the file has more; name another file in teacher.answers.file",
          place, count));
    if (named.empty() && state.done == 0) named = text_of(line, "teacher");
    const auto planned = line_of(state.done);
    for (const auto* key : {"prompt", "reference", "number", "teacher", "settings"})
      if (!line.contains(key) || line.at(key) != Json(planned.at(key)))
        throw RecipeError(fmt::format(
            "{}: {} is not that of the recipe's answer {}; name another file in teacher.answers.file", place,
            key, state.done + 1));
    ++state.done;
    state.finished += text_of(line, "finish_reason") == "stop";
  }
  file.cut(end);  // what a kill left half-written is asked again
  if (progress) progress(state);
  while (state.done < count) {
    leave_if_stopped("asking the teacher for answers");
    std::vector<AnswerRequest> requests;
    for (int64_t i = state.done; i < std::min(count, state.done + job.at_a_time); ++i)
      requests.push_back({records[static_cast<size_t>(i / spec.per_prompt)].prompt(),
                          static_cast<int64_t>(seeds.below(static_cast<uint64_t>(i), uint64_t{1} << 31))});
    auto& server = job.teacher();
    if (named.empty() && state.done == 0) named = server.model();
    if (job.model.empty() && !named.empty() && named != server.model())
      throw RecipeError(
          fmt::format("{}: its answers are of the model '{}', the server's is '{}'; serve the first again, "
                      "or name another file in teacher.answers.file",
                      spec.file, printable(named), printable(server.model())));
    const auto answers = server.answer(requests, spec);
    std::string lines;
    for (const auto& answer : answers) {
      auto line = line_of(state.done++);
      line["completion"] = answer.text;
      line["finish_reason"] = answer.finish_reason;
      state.finished += answer.finish_reason == "stop";
      ++state.asked;
      lines += line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
    }
    file.append(lines);
    if (progress) progress(state);
  }
  return state;
}

}  // namespace retort
