#include "text/jinja_chat.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/chat_pieces.h"
#include "text/jinja_messages.h"
#include "text/template_engine.h"
#include "text/thoughts.h"

namespace retort {
namespace {

constexpr char kAnswerBegins = '\x11',
               kAnswerEnds = '\x12';                // what the interpreter makes of {% generation %}
constexpr size_t kMostPrepared = size_t{64} << 20;  // bytes of conversations in one request

bool is_answer(const Message& message) { return message.role == "assistant"; }

// A control token in the template's own text, with the white space that it swallows.
struct Control {
  size_t begin, end;
  const AddedToken* token;
};

// Rendered text with what of it was given.
struct Flat {
  std::string text;
  std::vector<std::pair<size_t, bool>> ends;                  // of each part: where, and whether it was given
  std::vector<std::pair<size_t, size_t>> generated;           // {% generation %} blocks
  mutable std::optional<std::vector<Control>> controls = {};  // once somebody asked for them
};

Flat flat(const Rendering& rendering) {
  Flat whole;
  size_t bytes = 0;
  for (const auto& part : rendering.parts) bytes += part.text.size();
  whole.text.reserve(bytes);
  for (const auto& part : rendering.parts) {
    if (part.given) {
      whole.text += part.text;
    } else {
      constexpr char kMarks[] = {kAnswerBegins, kAnswerEnds, '\0'};
      for (size_t at = 0; at < part.text.size();) {
        const auto mark = std::min(part.text.find_first_of(kMarks, at), part.text.size());
        whole.text.append(part.text, at, mark - at);
        at = mark + 1;
        if (mark == part.text.size()) break;
        if (part.text[mark] == kAnswerBegins)
          whole.generated.emplace_back(whole.text.size(), whole.text.size());
        else if (!whole.generated.empty()) whole.generated.back().second = whole.text.size();
        else whole.text += part.text[mark];
      }
    }
    whole.ends.emplace_back(whole.text.size(), part.given);
  }
  return whole;
}

AddedTokenFinder control_tokens(const Tokenizer& tokenizer) {
  AddedTokenFinder finder;
  if (const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer)) {
    for (const auto& token : bpe->model().added)
      if (token.control) finder.add(token);
    return finder;
  }
  for (int32_t id = 0; id < tokenizer.size(); ++id)
    if (tokenizer.is_special(id)) finder.add({.text = tokenizer.token_text(id), .id = id, .control = true});
  return finder;
}

AddedTokenFinder thought_tokens(const Tokenizer& tokenizer) {
  AddedTokenFinder finder;
  for (const auto mark : thought_marks())
    if (const auto id = tokenizer.find(mark))
      finder.add({.text = std::string(mark), .id = *id, .control = true});
  return finder;
}

std::vector<std::pair<std::string, std::string>> named_tokens(const Tokenizer& tokenizer) {
  std::vector<std::pair<std::string, std::string>> tokens;
  const std::pair<const char*, std::optional<int32_t>> all[] = {{"bos_token", tokenizer.bos},
                                                                {"eos_token", tokenizer.eos},
                                                                {"pad_token", tokenizer.pad},
                                                                {"unk_token", tokenizer.unknown}};
  for (const auto& [name, id] : all)
    if (id) tokens.emplace_back(name, tokenizer.token_text(*id));
  return tokens;
}

// The first messages of a conversation, with a reply's header or without.
struct KeptRendering {
  std::shared_ptr<const RenderJob> job;
  RenderJob::Wanted wanted;
  Flat flat;
  std::string problem;
  mutable std::optional<std::vector<Piece>> pieces = {};  // once somebody asked for them
};

// What a template rendered for this thread and may be asked for again.
struct Kept {
  std::unordered_multimap<size_t, KeptRendering> renderings;  // by a hash of the messages
  std::unordered_set<std::string> written;                    // members that require_written() let pass
  size_t bytes = 0;
  void forget() { renderings.clear(), written.clear(), bytes = 0; }
};
Kept& kept_of(uint64_t chat) {
  thread_local std::unordered_map<uint64_t, Kept> all;  // templates live as long as the program
  return all[chat];
}

uint64_t next_serial() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

struct Span {
  size_t begin, end;
  int32_t answer;
};

// What a template wants to know of the tokenizer, which may be gone when it renders.
struct KnownTokens {
  explicit KnownTokens(const Tokenizer& tokenizer)
      : named(named_tokens(tokenizer)),
        controls(control_tokens(tokenizer)),
        thoughts(thought_tokens(tokenizer)) {}
  std::vector<std::pair<std::string, std::string>> named;
  AddedTokenFinder controls, thoughts;
};

class JinjaChat {
 public:
  JinjaChat(std::string source, KnownTokens tokens)
      : engine_(std::move(source), tokens.named),
        thought_field_(field_of_thoughts(engine_.source())),
        controls_(std::move(tokens.controls)),
        thoughts_(std::move(tokens.thoughts)) {
    find_end();
  }

  const std::string& end() const { return end_; }
  const std::string& source() const { return engine_.source(); }

  void prepare(std::span<const std::vector<Message>* const> conversations) const {
    kept().forget();
    std::vector<RenderJob> jobs;
    size_t bytes = 0;
    for (const auto* messages : conversations) {
      if (messages->empty()) continue;
      auto job = job_of(*messages, false);
      size_t size = 0;
      for (const auto& message : job.messages) size += message.size();
      bytes += size * job.wanted.size();
      if (bytes > kMostPrepared) break;  // the others are rendered when they are asked for
      jobs.push_back(std::move(job));
    }
    keep(std::move(jobs));
  }

  std::vector<Piece> render(const std::vector<Message>& messages, bool reply_header) const {
    require_written(messages);
    const auto rendered = all_of(messages, reply_header);
    require_there(messages, rendered.whole.text);
    // What becomes of a conversation asks for them several times (turns.h, render_tokens()).
    auto& found = rendered.kept->pieces;
    if (!found) found = pieces(messages, reply_header, rendered);
    return *found;
  }

 private:
  Kept& kept() const { return kept_of(serial_); }

  // Of what is kept; it stays until the next render() or prepare() of this thread.
  struct Rendered {
    const KeptRendering* kept;
    const Flat& whole;
    // Of each answer: the text up to it with its header, and with it.
    std::vector<std::pair<const Flat*, const Flat*>> answers;
  };

  RenderJob job_of(const std::vector<Message>& messages, bool reply_header) const {
    RenderJob job;
    for (const auto& message : messages) job.messages.push_back(json_of(message, thought_field_));
    job.beside = beside_of(messages);
    const auto count = static_cast<uint32_t>(messages.size());
    job.wanted.push_back({count, reply_header});
    for (uint32_t i = 0; i < count; ++i) {
      if (!is_answer(messages[i])) continue;
      job.wanted.push_back({i, true});
      if (i + 1 != count || reply_header) job.wanted.push_back({i + 1, false});
    }
    return job;
  }

  // Of the first 0, 1, 2, ... messages.
  static std::vector<size_t> hashes_of(const RenderJob& job) {
    const std::hash<std::string_view> hash;
    std::vector<size_t> hashes = {hash(job.beside)};
    for (const auto& message : job.messages)
      hashes.push_back((hashes.back() ^ hash(message)) * size_t{0x9E3779B97F4A7C15} + 1);
    return hashes;
  }

  void keep(std::vector<RenderJob> jobs) const {
    auto found = engine_.render(jobs);
    auto& all = kept();
    for (size_t j = 0; j < jobs.size(); ++j) {
      const auto job = std::make_shared<const RenderJob>(std::move(jobs[j]));
      const auto hashes = hashes_of(*job);
      all.bytes += job->beside.size();
      for (const auto& message : job->messages) all.bytes += message.size();
      for (size_t w = 0; w < found[j].size(); ++w) {
        const auto wanted = job->wanted[w];
        auto text = flat(found[j][w]);
        all.bytes += text.text.size();
        all.renderings.emplace(hashes[wanted.messages],
                               KeptRendering{job, wanted, std::move(text), std::move(found[j][w].problem)});
      }
    }
  }

  const KeptRendering* find(const RenderJob& job, size_t hash, RenderJob::Wanted wanted) const {
    const auto [begin, end] = kept().renderings.equal_range(hash);
    for (auto one = begin; one != end; ++one) {
      const auto& there = *one->second.job;
      const auto count = static_cast<std::ptrdiff_t>(wanted.messages);
      if (one->second.wanted.messages == wanted.messages &&
          one->second.wanted.reply_header == wanted.reply_header && there.beside == job.beside &&
          std::equal(job.messages.begin(), job.messages.begin() + count, there.messages.begin()))
        return &one->second;
    }
    return nullptr;
  }

  Rendered all_of(const std::vector<Message>& messages, bool reply_header) const {
    if (kept().bytes > kMostPrepared) kept().forget();
    const auto job = job_of(messages, reply_header);
    const auto hashes = hashes_of(job);
    std::vector<const KeptRendering*> found;
    const auto find_all = [&] {
      found.clear();
      for (const auto& wanted : job.wanted)
        if (const auto* one = find(job, hashes[wanted.messages], wanted)) found.push_back(one);
      return found.size() == job.wanted.size();
    };
    if (!find_all()) {
      keep({job});
      find_all();
    }
    auto next = found.begin();
    const auto take = [&]() -> const Flat& {
      const auto& one = **next++;
      if (!one.problem.empty()) refuse(messages, one.wanted.messages, one.wanted.reply_header, one.problem);
      return one.flat;
    };
    const auto count = static_cast<uint32_t>(messages.size());
    const auto& whole = take();
    Rendered rendered{found.front(), whole, {}};
    for (uint32_t i = 0; i < count; ++i)
      if (is_answer(messages[i])) {
        const auto& header = take();
        rendered.answers.emplace_back(&header, i + 1 == count && !reply_header ? &rendered.whole : &take());
      }
    return rendered;
  }

  // With the message at which the template fails: the first with which it says this.
  [[noreturn]] void refuse(const std::vector<Message>& messages, uint32_t count, bool header,
                           const std::string& problem) const {
    auto job = job_of(messages, false);
    job.wanted.clear();
    for (uint32_t i = 1; i <= count; ++i) job.wanted.push_back({i, i == count && header});
    uint32_t at = count;
    if (job.wanted.size() <= 64) {
      const auto found = engine_.render(std::span(&job, 1));
      while (at > 1 && found[0][at - 2].problem == problem) --at;
    }
    const auto where = at == 0 ? std::string("before the first message")
                               : fmt::format("message {} ({})", at, printable(messages[at - 1].role));
    throw RecipeError(fmt::format("the chat template at {}: {}", where, printable(problem)));
  }

  // A field that the template does not even name would be lost without a word.
  void require_written(const std::vector<Message>& messages) const {
    const auto require = [&](const std::string& members, const std::string& where, auto matters) {
      if (members.empty() || kept().written.contains(where + members)) return;
      const auto object = parse_json("{" + std::string(members) + "}", where);
      for (const auto& [name, value] : object.items())
        if (!value.is_null() && matters(name))
          throw RecipeError(
              fmt::format("{}{}: the chat template does not write it; leave it out of the "
                          "record, or set data.template to one that does",
                          where, printable(name)));
      kept().written.insert(where + members);
      kept().bytes += members.size();
    };
    for (size_t i = 0; i < messages.size(); ++i) {
      const auto& message = messages[i];
      if (!message.not_carried.empty())
        require(message.fields, fmt::format("message {}: ", i + 1), [&](std::string_view name) {
          const bool speaker = name == "name" && message.role != "tool" && message.role != "function";
          return (speaker || name == "tool_calls" || name == "function_call" || name == "tools") &&
                 !reads_member(source(), name);
        });
      require(message.beside, "",
              [&](std::string_view name) { return source().find(name) == std::string::npos; });
    }
  }

  const std::vector<Control>& controls_in(const Flat& rendered) const {
    if (rendered.controls) return *rendered.controls;
    auto& found = rendered.controls.emplace();
    size_t begin = 0;
    for (size_t p = 0; p < rendered.ends.size(); ++p) {
      const auto [end, given] = rendered.ends[p];
      if (given) {
        begin = end;
        continue;
      }
      if (p + 1 < rendered.ends.size() && !rendered.ends[p + 1].second) continue;  // one text
      const auto text = std::string_view(rendered.text).substr(begin, end - begin);
      for (size_t from = 0; from < text.size();) {
        const auto match = controls_.find(text, from, true);
        if (!match.token) break;
        found.push_back({begin + match.begin, begin + match.end, match.token});
        from = match.end;
      }
      begin = end;
    }
    return found;
  }

  // Where the answer that begins at `begin` ends: with the token that ends a turn, else with the last control
  // token that nothing but white space follows.
  size_t end_of_answer(const Flat& rendered, size_t begin) const {
    const auto& controls = controls_in(rendered);
    for (auto one = controls.rbegin(); one != controls.rend() && one->begin >= begin; ++one)
      if (one->token->text == end_) return one->end;
    if (!controls.empty() && controls.back().begin >= begin &&
        trimmed(std::string_view(rendered.text).substr(controls.back().end)).empty())
      return controls.back().end;
    return rendered.text.size();
  }

  // Where the answer begins: behind the header of a reply. Where the header opens a thought and this answer
  // has none, behind what the two share.
  size_t begin_of_answer(const Flat& header, const Flat& answered, size_t message) const {
    const auto &before = header.text, &text = answered.text;
    if (text.starts_with(before)) return before.size();
    size_t shared = static_cast<size_t>(
        std::mismatch(before.begin(), before.end(), text.begin(), text.end()).first - before.begin());
    for (const auto* side : {&header, &answered})
      for (const auto& control : controls_in(*side))
        if (control.begin < shared && shared < control.end) shared = control.begin;
    const auto rest = trimmed(std::string_view(before).substr(shared));
    const bool thought = std::any_of(thought_marks().begin(), thought_marks().end(),
                                     [&](auto mark) { return rest.starts_with(mark); });
    if (!thought)
      throw RecipeError(
          fmt::format("message {}: the chat template begins a reply with '{}', but writes this answer "
                      "otherwise: the model "
                      "would learn it in a context that it never meets",
                      message + 1, printable(std::string_view(before).substr(shared).substr(0, 60))));
    return shared;
  }

  std::vector<Span> spans(const std::vector<Message>& messages, bool reply_header,
                          const Rendered& rendered) const {
    std::vector<Span> found;
    const auto& whole = rendered.whole;
    const bool blocks = whole.generated.size() == rendered.answers.size();
    size_t a = 0;
    for (size_t i = 0; i < messages.size(); ++i) {
      if (!is_answer(messages[i])) continue;
      const auto& [header, answered] = rendered.answers[a];
      const auto answer = static_cast<int32_t>(i);
      if (blocks) {
        found.push_back({whole.generated[a].first, whole.generated[a].second, answer});
      } else {
        const auto begin = begin_of_answer(*header, *answered, i);
        const auto end = end_of_answer(*answered, begin);
        // Later turns may have changed it: then it is nobody's answer here (turns.h makes it a sample).
        if (whole.text.compare(0, end, answered->text, 0, end) == 0) found.push_back({begin, end, answer});
        else if (!reply_header && i + 1 == messages.size())
          found.push_back({begin, whole.text.size(), answer});
      }
      ++a;
    }
    return found;
  }

  std::vector<Piece> pieces(const std::vector<Message>& messages, bool reply_header,
                            const Rendered& rendered) const {
    const auto& whole = rendered.whole;
    const auto owned = spans(messages, reply_header, rendered);
    const auto owner = [&](size_t at) {
      for (const auto& span : owned)
        if (at >= span.begin && at < span.end) return span.answer;
      return -1;
    };
    PieceList list;
    // Plain text, cut where an answer begins or ends.
    const auto plain = [&](size_t begin, size_t end, bool given) {
      while (begin < end) {
        const auto answer = owner(begin);
        size_t stop = end;
        for (const auto& span : owned)
          for (const auto edge : {span.begin, span.end})
            if (edge > begin && edge < stop) stop = edge;
        const auto text = std::string_view(whole.text).substr(begin, stop - begin);
        if (given && answer >= 0) thoughts(list, text, answer);
        else list.text(text, answer);
        begin = stop;
      }
    };
    const auto controls = with_headers(controls_in(whole), owned, rendered);
    auto control = controls.begin();
    size_t at = 0;
    for (const auto& [end, given] : whole.ends) {
      while (control != controls.end() && control->begin < end) {
        plain(at, control->begin, false);
        list.control(control->token->text, owner(control->begin));
        at = control->end;
        ++control;
      }
      if (at < end) plain(at, end, given);
      at = std::max(at, end);
    }
    if (!reply_header && !messages.empty() && is_answer(messages.back()) && !written_end_.empty())
      list.control(written_end_, static_cast<int32_t>(messages.size()) - 1);
    return list.take();
  }

  // A record may spell what its header writes, "<think>" above all: before the answer it is the header's.
  std::vector<Control> with_headers(std::vector<Control> controls, const std::vector<Span>& owned,
                                    const Rendered& rendered) const {
    const auto& whole = rendered.whole;
    size_t a = 0;
    for (const auto& span : owned) {
      const auto part = std::lower_bound(whole.ends.begin(), whole.ends.end(), span.begin,
                                         [](const auto& one, size_t at) { return one.first < at; });
      const auto* header = a < rendered.answers.size() ? rendered.answers[a++].first : nullptr;
      if (!header || part == whole.ends.end() || !part->second || header->text.size() > span.begin) continue;
      const auto from = part == whole.ends.begin() ? 0 : std::prev(part)->first;
      for (const auto& control : controls_in(*header))
        if (control.begin >= from && control.end <= span.begin) controls.push_back(control);
    }
    std::sort(controls.begin(), controls.end(),
              [](const Control& x, const Control& y) { return x.begin < y.begin; });
    return controls;
  }

  // What marks a thought in an answer is the token that the model writes.
  void thoughts(PieceList& list, std::string_view text, int32_t answer) const {
    size_t from = 0;
    while (from < text.size()) {
      const auto match = thoughts_.find(text, from, true);
      list.text(text.substr(from, match.begin - from), answer);
      if (match.token) list.control(match.token->text, answer);
      from = match.end;
    }
  }

  // The control token behind the words of an answer, or, where the template writes none at the end (GLM), the
  // one that the next turn begins with.
  void find_end() {
    RenderJob job;
    constexpr std::string_view kWords = "retort asks how this ends";
    for (const auto* role : {"user", "assistant", "user"})
      job.messages.push_back(json_of({role, std::string(kWords)}, ""));
    job.wanted = {{2, false}, {3, false}};
    const auto found = engine_.render(std::span(&job, 1));
    const auto& problem = found[0][0].problem;
    if (problem.starts_with("cannot be read")) throw RecipeError("the chat template " + printable(problem));
    for (size_t w = 0; w < 2 && end_.empty(); ++w) {
      const auto text = flat(found[0][w]);
      const auto first = text.text.find(kWords);
      const auto second = first == std::string::npos ? first : text.text.find(kWords, first + kWords.size());
      if (second == std::string::npos) continue;
      for (const auto& control : controls_in(text))
        if (control.begin >= second + kWords.size()) {
          end_ = control.token->text;
          if (w == 1) written_end_ = end_;
          break;
        }
    }
  }

  TemplateEngine engine_;
  std::string_view thought_field_;
  uint64_t serial_ = next_serial();
  AddedTokenFinder controls_, thoughts_;
  std::string end_;          // the token that ends an answer
  std::string written_end_;  // the same where the template leaves it to the next turn
};

}  // namespace

ChatTemplate jinja_chat_template(std::string source, const Tokenizer& tokenizer,
                                 const ChatTemplate* built_in) {
  ChatTemplate chat;
  chat.source = source;
  if (built_in) {
    chat.name = built_in->name;
    chat.documentation = built_in->documentation;
    chat.stops = built_in->stops;
    // Its child begins with the first conversation that the built-in one cannot write.
    struct Lazy {
      std::once_flag once;
      std::optional<JinjaChat> chat;
    };
    const auto lazy = std::make_shared<Lazy>();
    const auto tokens = std::make_shared<const KnownTokens>(tokenizer);
    chat.render = [built_in, lazy, source, tokens](const std::vector<Message>& messages, bool header) {
      if (plain_words(messages)) return built_in->render(messages, header);
      std::call_once(lazy->once, [&] { lazy->chat.emplace(source, *tokens); });
      return lazy->chat->render(messages, header);
    };
    chat.prepare = [lazy, source, tokens](std::span<const std::vector<Message>* const> conversations) {
      std::vector<const std::vector<Message>*> others;
      for (const auto* messages : conversations)
        if (!plain_words(*messages)) others.push_back(messages);
      if (others.empty()) return;
      std::call_once(lazy->once, [&] { lazy->chat.emplace(source, *tokens); });
      lazy->chat->prepare(others);
    };
    return chat;
  }
  const auto jinja = std::make_shared<JinjaChat>(std::move(source), KnownTokens(tokenizer));
  chat.name = "jinja-" + sha256(chat.source).substr(0, 12);
  chat.documentation = "the text itself, rendered as it is";
  if (!jinja->end().empty()) chat.stops = {jinja->end()};
  chat.render = [jinja](const std::vector<Message>& messages, bool header) {
    return jinja->render(messages, header);
  };
  chat.prepare = [jinja](std::span<const std::vector<Message>* const> conversations) {
    jinja->prepare(conversations);
  };
  return chat;
}

std::string with_arguments(std::string_view source,
                           const std::vector<std::pair<std::string, std::string>>& arguments) {
  std::string text;
  for (const auto& [name, value] : arguments)
    text += fmt::format("{{%- if {} is not defined -%}}{{%- set {} = {} -%}}{{%- endif %}}", name, name,
                        value == "null" ? "none" : value);
  // A line's end behind a block goes with it.
  if (!arguments.empty() && source.starts_with('\n')) text += '\n';
  return text + std::string(source);
}

}  // namespace retort
