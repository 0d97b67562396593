"""The words of the page in simplified Chinese, under the same names and keys as in texts.py.

Terms: token stays token; prompt 提示词, seed 随机种子, steps 步数, guidance 引导强度, temperature 温度,
unmasking 去掩码, energy 能量, caption 描述. Prompts and captions stay English: that is what the text encoder reads.
"""

GENERATE_TAB = "生成"
COMPARE_TAB = "对比"
MATCH_TAB = "匹配"
LEARN_TAB = "原理"

PROMPT_LABEL = "想要什么样的图片？（请用英文描述）"
PROMPT_PLACEHOLDER = "例如：red apple, twemoji style"
RUN = "生成"
STOP = "停止"
STYLE_LABEL = "风格"
STYLE_ANY = "不限"
EXAMPLES_LABEL = "试试这些"
SEED_LABEL = "随机种子"
SEED_PLACEHOLDER = "随机"
DICE = "随机"
STEPS_LABEL = "步数"
STEPS_INFO = "步数越多，每步预测的 token 越少。"
GUIDANCE_LABEL = "引导强度"
GUIDANCE_INFO = "越高越贴近提示词。"
TEMPERATURE_LABEL = "温度"
TEMPERATURE_INFO = "越低越稳定，变化越少。"
BEST_OF_LABEL = "择优"
BEST_OF_INFO = "一次生成多张，显示与提示词最匹配的一张。"
BEST_OF_ONE = "只生成一张"
NEGATIVE_HEAD = "反向提示词"
NEGATIVE_LABEL = "不希望出现的内容"
NEGATIVE_PLACEHOLDER = "例如：blue, square"

LEARN_PROMPT_LABEL = "您自己的提示词"
LEARN_SETTINGS = "本次生成的设置"
LEARN_RUN = "带我看一遍"
LEARN_SAMPLE = "换个例子"

COMPARE_PROMPT_LABEL = "提示词"
COMPARE_COLUMNS_LABEL = "列"
COMPARE_ROWS_LABEL = "行"
COMPARE_VALUES_LABEL = "取值"
COMPARE_VALUES = "提示词每行一个，其他值用英文逗号分隔；种子和步数可写成范围，如 1-4。"
COMPARE_SETTINGS = "所有图片的共同设置"
COMPARE_RUN = "生成网格"
COMPARE_HELP = (
    "生成顺序和噪声都由随机种子决定，所以相邻图片之间只有行或列所改变的那一项不同。"
    "所有图片共用网络的前向计算，九张图的耗时远少于单张的九倍。最多 36 张。"
)

MATCH_ONE_TAB = "单张图片"
MATCH_MANY_TAB = "批量图片"
MATCH_PICTURE_LABEL = "图片"
CAPTIONS_LABEL = "描述，每行一条（最多 20 条，英文）"
CAPTIONS_PLACEHOLDER = "例如：\nred apple\ngreen apple\ntomato"
MATCH_RUN = "为描述排序"
WAITING = {
    "waiting": "正在等待模型",
    "queued": "排队中：前面还有 {ahead} 个",
    "queued_for": "排队中：前面还有 {ahead} 个，约 {seconds} 秒",
}

LEARN = {
    "outline": "将会看到什么",
    "outline_title": "拆开一次真实的生成",
    "outline_text": "您的提示词会在这里变成图片，途中的每个数字都会保留下来。分七站看清模型知道什么、预期什么、为什么。"
    "没有任何摆拍：一切都由您的提示词实时算出。",
    "progress_0": "正在一步步画出图片",
    "progress_1": "正在不用引导再画一遍",
    "progress_2": "正在询问每一步若就此结束会得到什么",
    "progress_3": "正在读取每个方块的预期和关注",
    **WAITING,
    "progress": "讲解的进度",
    "progress_alt": "目前的图片",
    "ready": "讲解已就绪：{total} 步，{all} 个方块",
    "of_run": "“{prompt}”，种子 {seed}",
    "controls": "步骤与方块，对所有各站生效",
    "step": "步骤",
    "step_of": "第 {step} 步，共 {total} 步",
    "step_value": "第 {step} 步，共 {total} 步：已知 {known} / {all} 个方块",
    "earlier": "上一步",
    "later": "下一步",
    "tile": "第 {row} 行第 {column} 列",
    "tile_alt": "选中的方块，第 {row} 行第 {column} 列",
    "tile_born": "在第 {born} 步画出",
    "tile_value": "第 {row} 行第 {column} 列，在第 {born} 步画出：{value}",
    "tile_plain": "第 {row} 行第 {column} 列，在第 {born} 步画出",
    "to_birth": "跳到画出这个方块的那一步",
    "stops": "各站",
    "choose": "在此选择一个方块：{board}",
    "equation": "公式",
    "title_tokens": "词元（token）",
    "short_tokens": "图片是一块方块板，每块是一小串数字",
    "plain_tokens": "图片是一块方块板；模型从不直接处理像素，只处理每个方块对应的一小串数字，即它的 token。",
    "board_tokens": "您的成品图片",
    "hint_tokens": "在这里或任何一块板上选择方块，各站都会随之变化。",
    "numbers": "这个方块的 {count} 个数字",
    "numbers_alt": "{count} 个数字的条形图，从 {least} 到 {most}",
    "symbols_tokens": "xᵢ 是方块 i 的 token：由 image_tokenizer.encode 得到的 C 个数字；"
    "image_tokenizer.decode 把全部 token 变回像素。",
    "title_context": "上下文与掩码",
    "short_context": "已知什么、遮住什么、接下来问什么",
    "plain_context": "每一步中，已画出的方块是上下文，其余都被遮住；接下来随机挑出几个被遮住的方块来预测。",
    "plan_text": "在画任何方块之前，模型先构图：用 {all} 个 token 以极低的分辨率描绘整幅图片。"
    "还没画出方块的地方会透出构图。",
    "plan_step": "第 {step} 步属于构图：此步之后已知 {known} / {all} 个构图 token。",
    "board_before": "第 {step} 步之前：已知 {known} 个",
    "board_after": "第 {step} 步之后：已知 {known} 个",
    "key_asked": "这一步要预测的",
    "key_masked": "被遮住的",
    "key_given": "这一步之前画出的",
    "key_pale": "之后的步骤才画出",
    "counts": "每一步预测的方块数：开始时所知甚少，所以少；越往后越多。",
    "counts_alt": "从第一步到最后一步，每步预测的方块数：{counts}",
    "symbols_context": "S 是绘制方块的步数（规划的步不计），mₛ 是其中第 s 步之后仍被遮住的方块数，N 是方块总数："
    "见 masking.py 的 cosine_schedule。顺序是由种子抽出的一个随机排列。",
    "title_prediction": "预测",
    "short_prediction": "此刻就能画出的整张图片",
    "plain_prediction": "仅凭上下文，模型已能画出每个被遮住的方块：若第 {step} 步就是最后一步，就会得到这张图片。",
    "board_now": "若第 {step} 步是最后一步",
    "board_end": "最终的样子",
    "prediction_note": "左图中其余部分是根据这些方块和您的提示词一次画出的。移动步骤，看猜测如何接近最终图片。",
    "symbols_prediction": "zᵢ 是方块 i 的条件，由 network.extend 读入已知 token、network.predict 询问该位置得到；"
    "x̂ᵢ 是去噪器从该方块自己的噪声 εᵢ 画出的结果。与最后一步一样，所有被遮住的方块一起询问。",
    "title_target": "JEPA 的目标",
    "short_target": "在像素出现之前预见特征",
    "plain_target": "除了像素，模型还预见整张图片完成后自己的编码器会如何感知每个方块；颜色越深，预见得越准。",
    "board_target": "第 {step} 步预见的特征",
    "early": "较小的方块画出得更早，保留它那一步的数值。",
    "likeness": "选中的方块在第 {step} 步的相似度",
    "likeness_kept": "选中的方块在第 {step} 步画出时的相似度",
    "chart_tile": "选中的方块",
    "chart_mean": "所有被遮住方块的平均",
    "chart_alt": "各步的相似度。被遮住方块的平均：从第一步的 {first} 到最后一步的 {last}。选中的方块：{tile}。",
    "chart_steps": "步骤",
    "symbols_target": "h 是 prediction_head；f̄ 是目标编码器，即训练中上下文编码器的滑动平均，"
    "作用于成品图片的全部 token。训练降低平滑 L1 距离 Lₚ；板上显示这两串数字的余弦，方向相同时为 1。",
    "title_denoising": "给一个 token 去噪",
    "short_denoising": "几次修正，从噪声到干净的方块",
    "plain_denoising": "每个方块起初都是纯噪声；在它应有样子的引导下，经过 {count} 次修正，噪声流成干净的 token。",
    "board_denoising": "所有方块，{stage}",
    "states": "选中的方块的变化过程",
    "guesses": "去噪器预期它会变成什么",
    "stage_noise": "噪声",
    "stage_clean": "干净",
    "stage_time": "时刻 t = {time}",
    "stage_label": "显示所有方块：{stage}",
    "states_alt": "选中的方块：{stage}",
    "guesses_alt": "去噪器预期的干净方块：{stage}",
    "denoising_note": "每个方块显示的是它在自己那一步的变化过程。",
    "symbols_denoising": "xₜ 是时刻 t 的带噪 token，t 从 0（噪声）到 1（干净）；D 是去噪器，zᵢ 是方块的条件。"
    "flow.py 的 FlowMatching.sample 用两步 Adams-Bashforth 法沿斜率前进，每次修正计算一次 D。",
    "symbols_diffusion": "这套权重用高斯扩散去噪：D 预测 xₜ 中的噪声 ε，flow.py 的 GaussianDiffusion.sample "
    "一点点去掉它；ᾱ 是信号所占的份额。",
    "title_fusion": "与提示词融合",
    "short_fusion": "每个方块读了哪些词",
    "plain_fusion": "画出方块之前，它会再读一遍您的提示词：选择一个词，看哪些方块在读它；或选择方块，看它读了哪些词。",
    "board_fusion": "读“{word}”的方块",
    "words_of_tile": "选中的方块读了什么",
    "word_start": "提示词开头",
    "word_end": "提示词结尾",
    "word_label": "{word}：{share}%。显示读它的方块",
    "reads_most": "在这一步，方块读得最多的是“{word}”：平均 {share}%。",
    "fusion_note": "份额是 {heads} 个注意力头的平均，合计 100%。开头和结尾是文本编码器的标记，承载整句提示词的意思。"
    "词语还通过另外两条路进入图片：作为上下文的一部分，以及作为加到每个方块上的平均值；所以份额小不等于被忽略。",
    "symbols_fusion": "qᵢ 来自预测器对方块 i 的回答，kⱼ 和 vⱼ 来自词片 j 的文本特征，E 是一个头的宽度：network.fusion，"
    "即 models/blocks.py 的 CrossAttention。一个词的各词片份额相加。",
    "title_guidance": "关闭与开启引导",
    "short_guidance": "同一个种子，推一把与不推",
    "plain_guidance": "开启引导时，去噪器回答两次：有提示词一次，没有提示词一次；图片沿两者之差再放大着走。",
    "board_off": "关闭，第 {step} 步之后",
    "board_on": "开启，第 {step} 步之后：强度 {scale}",
    "guidance_same": "这次生成的引导强度为 1，即关闭：两张图片相同。",
    "guidance_note": "两边的顺序和噪声相同。每一步的强度都是 {full}。",
    "mixed_note": "“{thing}”从未以这种风格出现过，因此提示词的预测是混合的：去掉风格的提示词在构图中占 {plan}，"
    "在图片中占 {picture}。份额为负时，图片远离它、靠近风格。",
    "symbols_guidance": "D 是去噪器的回答，条件分别为您的提示词 z 和学到的空文本（或您的反向提示词）z⁰；"
    "w 是您设置的引导强度：见 flow.py 的 conditioned 和 picture.py 的 Picture.scale。",
}

MATCH_HELP = (
    "**如何解读。** TI-JEPA 在网络内部由描述预测图片，也由图片预测描述。“能量”是预测后剩余的误差，"
    "与没有另一方时的误差、以及其他描述和图片所留的误差相比：**越低越好**，低于零时概率高于一半。进度条把能量换算成“概率”，"
    "即描述与图片相符的可能性，以其他图片的描述作为对照，其中一半属于同一类别。"
    "描述中若有颜色、方位或数量，还须胜过只换了颜色、方位或数量的同一描述。“正确配对”是模型从未学过的图片"
    "与各自的描述，“错误配对”是同一批图片与彼此的描述。模型只见过表情符号，"
    "用于照片时结果仅供参考。图片若不是正方形，只看中央的正方形部分。"
)

MANY_FILES_LABEL = "图片、ZIP 压缩包和表格"
MANY_CAPTIONS_LABEL = "描述，每行一条（英文）"
MANY_CAPTIONS_PLACEHOLDER = "例如：\nred apple\ngreen apple\ntomato"
MANY_QUICK_LABEL = "先快速筛选"
MANY_QUICK_INFO = (
    "达到 2,000 个配对时生效：先用能量中计算很快的两部分比较所有配对，再只为每张图片最好的 20 条描述、"
    "每条描述最好的 5 张图片计算完整能量。"
)
MANY_RUN = "为所有配对打分"
MANY_HELP = (
    "每张图片都会与每条描述打分，两者最多各 1,000。压缩包里可以有图片、写有描述的文本文件和表格。"
    "表格（CSV）含 *picture* 和 *caption* 两列，说明哪些图片与描述是一对，这样还能得知正确描述排在首位的比例。"
    "无法读取的内容会逐一列出，其余照常打分。"
)

AXES = {
    "prompt": "提示词",
    "style": "风格",
    "seed": "随机种子",
    "steps": "步数",
    "guidance": "引导强度",
    "temperature": "温度",
    "none": "无",
}

HEADER = {
    "title": "JEPA studio",
    "subtitle": "看图片逐个 token 被预测出来。",
    "mode": "切换浅色与深色",
}

FITS = {
    "fits_very_well": "非常匹配",
    "fits_well": "匹配",
    "may_fit": "可能匹配",
    "probably_not": "可能不匹配",
    "does_not_fit": "不匹配",
}

PLAYER = {
    "player": "播放器：空格键播放，方向键逐步查看，m 键切换视图",
    "invitation_title": "图片将显示在这里",
    "invitation": "每个方块是一个 token。模型按随机顺序，每次预测其中几个。",
    "play": "播放各步",
    "pause": "暂停",
    "timeline": "生成的步骤",
    "view": "视图",
    "view_picture": "图片",
    "view_unmasking": "去掩码",
    "view_order": "顺序",
    "view_predicted": "预测",
    "energy": "能量",
    "fit": "与提示词的匹配：{words}，{percent}%（能量 {energy}，越低越好）",
    "go_on": "从第 {step} 步继续",
    "redo": "重做局部",
    "paint_help": "涂抹要按输入框中的提示词重新生成的部分，其边缘也会随之改变。",
    "paint_keys": "方向键移动，空格键标记，回车键开始，Esc 键退出。",
    "paint_go": "重做 {count} 个 token",
    "paint_room": "在四周留白",
    "paint_clear": "清除",
    "paint_leave": "退出",
    "tile_marked": "第 {row} 行第 {column} 列，已标记",
    "tile_free": "第 {row} 行第 {column} 列，未标记",
    "speed": "速度",
    "legend_first": "最先",
    "legend_last": "最后",
    "candidates": "全部候选，按匹配程度排列",
    "candidate": "查看第 {place} 张：种子 {seed}，{words}，能量 {energy}",
    "to_match": "匹配这张图片",
    "reuse": "沿用种子",
    "download": "下载",
    "export": "导出",
    "export_webp": "动画（WebP）",
    "export_gif": "动画（GIF）",
    "export_mp4": "视频（MP4）",
    "export_json": "生成记录（JSON）",
    "export_png": "当前步骤（PNG）",
    "keep_settings": "在 PNG 中保存设置",
    "see_through": "透明背景",
    "example": "这是之前生成的示例；输入提示词即可生成自己的图片",
    "exporting": "正在写入文件",
    "exported": "已保存为 {name}",
    "unreachable": "无法连接服务器，请稍后再试",
    **WAITING,
    "coming_back": "连接中断，即将继续",
    "welcome_back": "这是您上次的生成",
    "lost": "服务器已没有您的这次生成，或无法连接",
    "again": "重新生成",
    "alt_begin": "起始图片",
    "running": "第 {step} 步，共 {total} 步",
    "choosing": "正在完成 {count} 张图片并从中挑选",
    "finished": "完成，用时 {seconds} 秒",
    "stopped": "已停在第 {step} 步（共 {total} 步），保留当前图片",
    "from_history": "来自历史记录",
    "kept": "来自历史记录；重新运行即可查看各步",
    "place": "第 {step} 步，共 {total} 步",
    "alt": "“{prompt}”的图片，{place}",
    "tokens": "新增 {fresh} 个，已知 {known} / {all} 个 token",
    "planned": "正在构图：已有 {known} / {all} 个构图 token",
} | FITS

RECALL = {
    "from_picture": "从图片读取设置",
    "begin_with": "从图片开始",
    "begun": "{name} 已放上画面；请涂抹要重新生成的部分",
    "copy_link": "复制链接",
    "filled": "已填入 {name} 的设置",
    "too_large": "{name} 超过 {most} MB",
    "link_copied": "已复制包含这些设置的链接",
    "link_in_address": "这些设置已写入页面地址，请从地址栏复制",
    "link_opened": "已填入链接中的设置，点击“生成”即可运行",
    "link_partly": "链接中的这些内容未采用：{names}",
    "unreachable": "无法连接服务器，请稍后再试",
}

UNKNOWN = {
    "unknown": "训练中从未见过：{words}",
    "read_as": "理解为：{caption}",
    "new_pair": "从未见过这种风格的“{thing}”，其形状取自其他风格。",
}

HISTORY = {
    "history": "最近的图片，只保存在本浏览器中",
    "history_clear": "清空",
    "history_item": "显示“{prompt}”，种子 {seed}，并恢复其设置",
}

COMPARE = AXES | {
    "empty": "选择各列和各行改变什么。除非某一轴改变随机种子，所有图片都用同一个种子，因此只会看到这项改变带来的差别。",
    "region": "图片网格",
    "as_picture": "下载为图片",
    "as_csv": "下载为 CSV",
    "making": "正在生成 {count} 张图片",
    "finished": "{count} 张图片已完成",
    "stopped": "已停止：{all} 张图片中已完成 {count} 张",
    **WAITING,
    "axis_value": "{axis} {value}",
    "alt": "“{prompt}”的图片，{changes}，第 {step} 步，共 {total} 步",
    "comma": "，",
}

RANKING = {
    "empty": "给出一张图片和几条描述，它们会按匹配程度排列在这里。",
    "facts": "概率 {percent}%  ·  能量 {energy}",
    "facts_among": "概率 {percent}%  ·  在这些描述中占 {share}%  ·  能量 {energy}",
    "differs_colour": "接近：颜色不同",
    "differs_side": "接近：左右或上下不同",
    "differs_number": "接近：数量不同",
    "closer": "“{caption}”更匹配",
    "typical": "优于 {wrong}% 的错误配对，与一般的正确配对相当",
    "strong": "优于 {wrong}% 的错误配对，也优于 {right}% 的正确配对",
    "weak": "优于 {wrong}% 的错误配对；有 {others}% 的正确配对比它更匹配",
    "choose": "点选一条描述，查看原因。",
} | FITS

WHY = {
    "why": "匹配的原因：词语与图片的各个部分",
    "title": "词语对图片的作用",
    "asking": "正在逐一去掉每个词来比较",
    "unreachable": "无法连接服务器，请稍后再试",
    "alt": "模型看到的图片",
    "patches": "图片的各个部分：方向键移动，回车键选择，退出键返回整条描述",
    "chips": "描述中的词语",
    "whole": "整条描述",
    "hinders": "误导",
    "helps": "有帮助",
    "legend": "颜色表示词语消除了多少误差：误差越小，能量越低，也就越好。最深的绿色代表 {percent}%。",
    "say_whole": "有了描述，图片的 {all} 个部分中有 {count} 个更容易预测；其中{place}最明显，误差减少 {percent}%。"
    "最重要的词是“{word}”。",
    "say_nothing": "这条描述没有让图片的任何部分更容易预测。最重要的词是“{word}”。",
    "say_word": "“{word}”对{place}的帮助最大，消除了那里 {percent}% 的误差。",
    "say_idle": "“{word}”没有让图片的任何部分更容易预测。",
    "say_match": "去掉这个词，匹配概率会从 {percent}% 变为 {without}%。",
    "say_patch": "{place}：描述消除了 {percent}% 的误差，其中“{word}”贡献最大。",
    "say_patch_worse": "{place}：描述使误差增大 {percent}%，其中“{word}”的帮助最大。",
    "place": "第 {row} 行第 {column} 列",
    "place_first": "第 {row} 行第 {column} 列",
    "patch_less": "{place}：有描述时误差减少 {percent}%，主要靠“{word}”",
    "patch_more": "{place}：有描述时误差增大 {percent}%",
    "list_match": "如果去掉描述中的一个词（现在的概率为 {percent}%）",
    "list_patch": "各个词对{place}的作用",
    "worse": "概率 {percent}%，能量升高 {energy}：变差",
    "better": "概率 {percent}%，能量降低 {energy}：变好",
    "takes": "消除 {percent}% 的误差：有帮助",
    "adds": "增加 {percent}% 的误差：误导",
}

MANY = {
    "empty": "请添加图片和描述。每张图片都会与每条描述打分，表格逐行填入。",
    "region": "匹配表格",
    "waiting": "等待中：前面还有 {ahead} 个",
    "reading": "正在读取第 {done} 个文件，共 {total} 个",
    "scoring": "已为 {done} / {total} 张图片打分",
    "stopped": "已停止：{total} 张图片中已打分 {done} 张，结果保留",
    "finished": "{pictures} 张图片与 {captions} 条描述已打分",
    "progress": "进度",
    "left_out": "{count} 项未采用，其余照常打分",
    "as_csv": "下载为 CSV",
    "sort": "图片的顺序",
    "sort_given": "原来的顺序",
    "sort_best": "最匹配的在前",
    "sort_doubtful": "最可疑的配对在前",
    "sort_caption": "按表中选定的描述",
    "by_caption": "按“{caption}”排列图片",
    "picture": "图片",
    "shown": "表格显示 {pictures} 张图片中的 {rows} 张、{captions} 条描述中的 {columns} 条；CSV 包含全部。",
    "recall": "{count} 张图片中，正确描述排在首位的占 {first}%，排在前五的占 {five}%。",
    "recall_back": "{count} 条描述中，正确图片排在首位的占 {first}%，排在前五的占 {five}%。",
    "quick": "表格较大：只为快速筛选出的配对（每张图片的 {best} 条最佳描述、每条描述的最佳图片）"
    "计算了完整能量，其余以圆点表示。",
    "legend": "数字是图片与描述相符的概率（%）。带圈的是您表格中的配对。",
    "cell": "{caption}：概率 {percent}%，能量 {energy}（越低越好）",
}
